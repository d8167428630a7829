# Two commands are enough on a machine with Go and make: make demo, make test.

# The same for all, so that one step finds what another has compiled.
export CGO_ENABLED = 0
export GOFLAGS    := $(strip $(GOFLAGS) -trimpath)

TOOL      = go tool -modfile=tools/go.mod
FUZZTIME ?= 2000x
PACKAGES ?= ./...
# The race detector sees the packages in which goroutines share most, without the tests that it makes slow, and of the
# stories those in which much happens at once.
RACED    ?= . $(addprefix ./internal/,client compare conns delta fetch follow lookup middle offers origin partial peering record relay remote roster server \
	slots store transfer verify watch)
SLOW      = ^TestCrashIsUndone|^TestDeltaIsNearTheBound|^TestMemoryIsBounded|^TestMemoryOfManyTargets|^TestListOfVeryManyVersions|^TestSwarmsOfAnySize|^TestNodesT(oWhich|hatComeLast)|^TestSlowNodesOfASwarm|^TestTwoTiersOfSwarms|^TestADownloadEndsAlsoWhenMostPeers|^TestFetchKeepsToItsRate|^TestFetchIsAsFastAs|^TestOpenPlacesAre|^TestFollowDoesNotHammer
TOGETHER  = arriving|blame|busy|chain|crowd|delta_[cf]|follow$$|follow_([cm]|exec|full$$|killed)|key_m|kill_m|killed|push|resta|resume|retired|slow|swarm$$|swarm_[fkt]|thr|upstream|watch$$|watch_k|wiped|wrong_w
PREFIX   ?= /usr/local
COMMANDS  = shardcast-origin shardcast-middle shardcast-client

.PHONY: help build test race e2e soak fuzz bench bench-check lab killloop lint vet fmt check demo man reference install dist wheels python clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the three commands into bin/, without C
	go build -o bin/ ./cmd/...

# Many tests wait, so that two cores test four packages at a time.
test: ## Run all tests but the soak
	go test -p 4 -count=1 $(PACKAGES)

race: ## Run the tests in which much happens at once with the race detector (needs a C compiler), and list the failures
	$(TOOL) gotestsum --format pkgname-and-test-fails --raw-command -- env CGO_ENABLED=1 \
		go test -p 4 -vet=off -json -race -count=1 -skip '$(SLOW)' $(RACED)
	$(TOOL) gotestsum --format pkgname-and-test-fails --raw-command -- env CGO_ENABLED=1 \
		go test -vet=off -json -race -count=1 -run '^TestScripts$$/^($(TOGETHER))' ./cmd

e2e: ## Run the stories of the commands, with nginx, curl and others (from Debian, as root)
	scripts/others
	go test -count=1 ./cmd

soak: ## Measure the memory for 100,000 files; send 500 small versions, and kill all three commands 100 times meanwhile (VERSIONS, KILLS, SEED)
	SOAK_VERSIONS=$${VERSIONS:-500} SOAK_KILLS=$${KILLS:-100} SOAK_SEED=$${SEED:-1} \
		go test -count=1 -timeout 1h -run 'TestScripts/(soak|tree_memory)$$' ./cmd

fuzz: ## Run every fuzz target with FUZZTIME inputs (2000x)
	scripts/fuzz $(FUZZTIME)

bench: build ## Measure all beside openssl, curl, nginx and others (ARGS='-base OLD/bin -memory 8GiB', -help)
	go run ./scripts/bench $(ARGS)

bench-check: build ## Measure all, and fail if a figure is worse than in the newest of bench/reports (ARGS)
	go run ./scripts/bench -check bench/reports $(ARGS)

lab: build ## Measure over shaped links, beside nginx, aria2c and BitTorrent (Linux, root; ARGS='-nodes 4 -base OLD/bin', -help)
	go run ./scripts/lab $(ARGS)

killloop: build ## Kill clients, middles, clients of a directory and a follower of deltas, 100 times each; they go on (SIZE, KILLS, SEED, BIN, BASE, DIR)
	go run ./scripts/killloop

lint: ## Lint, with the versions in tools/go.mod
	$(TOOL) golangci-lint run
	go mod tidy -diff

vet: ## Check the types for the other system that we build for; lint does for this one
	go -C tools run ./typecheck darwin

fmt: ## Format
	$(TOOL) golangci-lint fmt

demo: build ## Show all of it on loopback: origin, two middles in a chain, client
	scripts/demo

check: lint vet build demo fuzz python test race ## Run all that CI runs

python: build ## Test the Python package, and check its types (PYTHONS, such as 'python3.9 python3.13')
	scripts/python

man: ## Generate man pages and completions into build/share
	rm -rf build/share
	for command in $(COMMANDS); do \
		SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
		go run -tags pages ./cmd/$$command pages build || exit 1; done

reference: ## Write the flags of the commands into docs/reference.md
	for command in $(COMMANDS); do go run -tags pages ./cmd/$$command reference docs/reference.md || exit 1; done

install: build man ## Install commands, man pages and completions below PREFIX (/usr/local), in DESTDIR
	install -d "$(DESTDIR)$(PREFIX)/bin"
	for command in $(COMMANDS); do install -m 755 bin/$$command "$(DESTDIR)$(PREFIX)/bin/" || exit 1; done
	cd build && find share -type f | while read -r file; do \
		install -d "$(DESTDIR)$(PREFIX)/$${file%/*}" && install -m 644 "$$file" "$(DESTDIR)$(PREFIX)/$$file" || exit 1; done

dist: ## Build the archives and wheels of a release into dist, and their SHA256SUMS (ARGS, such as '-targets linux/amd64')
	go run ./scripts/dist $(ARGS)

wheels: ## Build the wheels of the Python package alone into dist (ARGS, as for dist)
	go run ./scripts/dist -kinds wheels $(ARGS)

clean: ## Remove what was built
	rm -rf bin build dist
