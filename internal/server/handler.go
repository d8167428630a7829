package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/overview"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// handler is the chain of handlers, and the parts of it that run beside requests.
type handler struct {
	chain    http.Handler
	admin    http.Handler // of a second address, or nil
	gate     *slots.Gate
	nodes    http.Handler // of the address for peers by TLS, or nil
	listings *listings
	hashing  *hashing
	overview *overview.Overview // nil for none
}

// newHandler returns a handler that holds requests until over is closed, and none if over
// is nil.
func newHandler(opts Options, over <-chan struct{}) *handler {
	c := opts.Catalog
	h := &handler{gate: slots.NewGate(opts.Limits), listings: newListings(opts, over), hashing: newHashing(opts, over)}
	h.listings.hashing = h.hashing
	files := files{catalog: c, withdrawn: opts.Withdrawn, keep: immutable}
	if opts.Tokens != nil || opts.TLS.isMutual() {
		files.keep = immutableHere
	}
	health := health{catalog: c, ready: opts.Ready, over: over}
	var endpoints [kinds]endpoint
	var swarming *swarming
	send, sendDelta := files.shard, files.deltaShard
	if opts.Members != nil || opts.Nodes != nil || !c.HasDirectory() {
		files.swarms = true
		swarming = newSwarming(c, over)
		if opts.Members != nil {
			swarming.logger = opts.Logger
		}
		send, sendDelta = swarming.admit(files.shard), swarming.admit(files.deltaShard)
		endpoints[kindHave] = swarming.have
		endpoints[kindDeltaHave] = swarming.have
	}
	endpoints[kindShard] = stays(limit(h.gate, send))
	endpoints[kindDeltaShard] = stays(limit(h.gate, sendDelta))
	endpoints[kindHealth] = health.healthy
	if c.HasDirectory() {
		endpoints[kindDistribution] = h.listings.distribution
		endpoints[kindRelease] = h.listings.signed
		endpoints[kindManifest] = files.manifest
		endpoints[kindSums] = files.sums
		endpoints[kindBLAKE3] = h.hashing.blake3
		endpoints[kindFiles] = files.list
		endpoints[kindDelta] = files.delta
		endpoints[kindStream] = stays(limit(h.gate, files.stream))
		endpoints[kindReady] = health.readiness
		endpoints[kindProbe] = stays(limit(h.gate, newProbe()))
		if opts.Members != nil {
			endpoints[kindPeers] = peers{opts.Members}.answer
		}
		if opts.Metrics != nil {
			endpoints[kindMetrics] = scrape{opts.Metrics}.answer
			opts.Metrics.Measure(measuring{c, health, opts.Members, opts.TLS, opts.Logger}.measure)
		}
		if h.overview = newOverview(opts, health); h.overview != nil {
			endpoints[kindStatus] = statusPage{h.overview}.answer
		}
	}
	chain := newChain(opts, h.overview, swarming != nil)
	if opts.Nodes != nil {
		var shared [kinds]endpoint
		for _, k := range []kind{kindHealth, kindHave, kindShard, kindDeltaHave, kindDeltaShard} {
			shared[k] = endpoints[k]
		}
		h.nodes = chain(shared, nil, opts.Nodes.Tickets)
	}
	if opts.AdminAddr == "" {
		h.chain = chain(endpoints, opts.Tokens, nil)
		return h
	}
	var inside [kinds]endpoint
	for k := range kinds {
		if k.isInside() {
			inside[k], endpoints[k] = endpoints[k], nil
		}
	}
	inside[kindHealth] = endpoints[kindHealth]
	h.chain, h.admin = chain(endpoints, opts.Tokens, nil), chain(inside, nil, nil)
	return h
}

// chaining puts a chain of handlers before endpoints, which nodes with one of tokens may ask, or
// with a ticket; nil ones ask for none.
type chaining func(endpoints [kinds]endpoint, tokens *Tokens, tickets *swarm.Tickets) http.Handler

// newChain returns how to make chains.
func newChain(opts Options, seen *overview.Overview, swarms bool) chaining {
	exhausted := new(conns.Occasional)
	counted := newCounting(opts, seen, swarms)
	return func(endpoints [kinds]endpoint, tokens *Tokens, tickets *swarm.Tickets) http.Handler {
		var chain http.Handler = answering{endpoints, opts.Logger, exhausted}
		if tokens != nil {
			chain = admitting{chain}
		}
		if tickets != nil {
			chain = ticketed{chain, tickets}
		}
		chain = reading{chain, conns.HeaderTimeout}
		chain = newPages(chain, opts.Web, opts.Logger)
		chain = counted(chain)
		return routing{chain, opts.Dialect, endpoints[kindStatus] != nil, tokens}
	}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.chain.ServeHTTP(w, r) }

// A kind is what a request is for.
type kind int

// The kinds. A server without an endpoint for a kind answers 404.
const (
	kindOther kind = iota // a path that has no meaning
	kindDistribution
	kindRelease
	kindManifest
	kindSums
	kindBLAKE3
	kindFiles
	kindStream
	kindHave
	kindShard
	kindDelta
	kindDeltaHave
	kindDeltaShard
	kindProbe
	kindHealth
	kindReady
	kindMetrics
	kindPeers
	kindStatus

	kinds // the number of kinds
)

// isShard reports whether a request is for a shard, of a version or a delta.
func (k kind) isShard() bool { return k == kindShard || k == kindDeltaShard }

// names are the kinds of files that are no version's.
var names = map[string]kind{
	distfile.FileName: kindDistribution, release.FileName: kindRelease,
	wire.HealthName: kindHealth, wire.ReadyName: kindReady,
	wire.MetricsName: kindMetrics, wire.PeersName: kindPeers, wire.ProbeName: kindProbe,
}

// versionNames are the kinds of files of a version, but for its shards.
var versionNames = map[string]kind{
	shard.ManifestName: kindManifest, shard.SumsName: kindSums, shard.FilesName: kindFiles,
	shard.BLAKE3Name: kindBLAKE3,
	wire.StreamName:  kindStream, wire.HaveName: kindHave,
}

// A target is what a request is for, and the rate at which it may be answered.
type target struct {
	kind    kind
	dialect Dialect
	ours    bool          // the path names no dialect
	version shard.Version // or zero for the newest
	base    shard.Version // of a delta
	number  int           // of the shard
	asker   asker
}

// An endpoint answers GET and HEAD. It returns an error before it has sent anything, or
// nil.
type endpoint func(w http.ResponseWriter, r *http.Request, t target) error

// routing reads the path of a request, and keeps its target in the context.
type routing struct {
	next    http.Handler
	dialect Dialect // of paths that name none
	status  bool    // there is a status page
	tokens  *Tokens
}

// targetKey is the key of a [target] in the context of a request.
type targetKey struct{}

func (h routing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := h.target(r.URL.Path)
	t.asker = h.tokens.asker(r.Header)
	h.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, &t)))
}

// targetOf returns the target of a request that was routed.
func targetOf(r *http.Request) target {
	t, _ := r.Context().Value(targetKey{}).(*target)
	return *t
}

// target reads a path.
func (h routing) target(path string) target {
	// Exactly these: a Python client that is given http://host/ asks for paths that begin with
	// two slashes.
	if h.status && (path == pagePath || path == statusPath) {
		return target{kind: kindStatus}
	}
	t := target{dialect: h.dialect, ours: true}
	path = strings.TrimLeft(path, "/")
	for name, dialect := range dialectNames {
		if rest, ok := strings.CutPrefix(path, name+"/"); ok {
			t.dialect, path, t.ours = dialect, strings.TrimLeft(rest, "/"), false
			break
		}
	}
	directory, file, nested := strings.Cut(path, "/")
	if !nested {
		t.kind = names[path]
		return t
	}
	if directory == wire.Latest && t.ours && (file == wire.StreamName || file == shard.ManifestName) {
		t.kind = versionNames[file]
		return t
	}
	var err error
	if t.version, err = shard.ParseVersion(directory); err != nil {
		return t
	}
	if t.number, err = shard.ParseFileName(file); err == nil {
		t.kind = kindShard
		return t
	}
	if delta, of, nested := strings.Cut(file, "/"); nested {
		t.delta(delta, of)
		return t
	}
	if t.kind = versionNames[file]; t.kind == kindStream && !t.ours {
		t.kind = kindOther
	}
	return t
}

// delta reads the rest of a path: the directory of a delta, and a file in it. The Python package's view has none.
func (t *target) delta(directory, file string) {
	base, err := shard.ParseDeltaName(directory)
	if err != nil || !t.ours {
		return
	}
	t.base = base
	switch file {
	case shard.ManifestName:
		t.kind = kindDelta
	case wire.HaveName:
		t.kind = kindDeltaHave
	default:
		if number, err := shard.ParseFileName(file); err == nil {
			t.kind, t.number = kindDeltaShard, number
		}
	}
}

// reading admits requests that only read.
type reading struct {
	next        http.Handler
	bodyTimeout time.Duration
}

func (h reading) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", noCache)
	if r.ContentLength != 0 {
		// No endpoint reads a body, but the connection's next request comes only after it.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTimeout))
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered here", http.StatusMethodNotAllowed)
		return
	}
	h.next.ServeHTTP(w, r)
}

// answering answers by the endpoints, and turns their errors into statuses.
type answering struct {
	endpoints [kinds]endpoint
	logger    *slog.Logger
	exhausted *conns.Occasional
}

func (h answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := targetOf(r)
	err := fs.ErrNotExist
	if answer := h.endpoints[t.kind]; answer != nil {
		err = answer(w, r, t)
	}
	if err == nil {
		return
	}
	header := w.Header()
	header.Set("Cache-Control", noCache)
	status := statusOf(err)
	text := http.StatusText(status)
	switch status {
	case http.StatusInternalServerError:
		h.logger.Error("request failed", "path", r.URL.Path, "err", err)
	case http.StatusServiceUnavailable:
		if conns.Exhausted(err) && h.exhausted.IsDue(time.Now()) {
			h.logger.Warn("too many open files", "path", r.URL.Path, "err", err, "hint", conns.RaiseHint)
		}
		h.logger.Debug("shard refused", "path", r.URL.Path, "client", r.RemoteAddr, "err", err)
		after := wire.BusyRetry
		if errors.Is(err, errNoSlot) {
			after = wire.SwarmRetry
		}
		header.Set("Retry-After", strconv.Itoa(int(after.Seconds())))
		text = err.Error()
	}
	http.Error(w, text, status)
}

// statusOf is the one place where errors become HTTP statuses.
func statusOf(err error) int {
	switch {
	case errors.Is(err, catalog.ErrWithdrawn):
		return http.StatusGone
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, slots.ErrSent):
		return http.StatusConflict
	case conns.Exhausted(err), errors.Is(err, slots.ErrBusy), errors.Is(err, errNoSlot),
		errors.Is(err, catalog.ErrLater):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// plainText is the content type of text for people and simple programs.
const plainText = "text/plain; charset=utf-8"

// Values of Cache-Control (RFC 9111, section 5.2.2, and RFC 8246).
const (
	// noCache has a cache ask whether its answer is still right: a version number can come
	// back with other bytes when its origin has lost its data directory.
	noCache = "no-cache"

	// immutable lets a cache keep the answer for a year without asking.
	immutable = "public, max-age=31536000, immutable"

	// immutableHere lets the cache of one reader do so, and none that others ask, too, which would
	// ask them for no token (RFC 9111, section 3.5).
	immutableHere = "private, max-age=31536000, immutable"

	// noStore keeps an answer out of caches.
	noStore = "no-store"
)

// serveText sends text under its digest.
func serveText(w http.ResponseWriter, r *http.Request, contentType string, text []byte) {
	serve(w, r, contentType, sha256.Sum256(text), bytes.NewReader(text))
}

// serve sends content under its digest as a strong entity tag (RFC 9110, section 8.8.3), or
// under none if the digest is zero.
func serve(w http.ResponseWriter, r *http.Request, contentType string, digest shard.Digest, content io.ReadSeeker) {
	tag := ""
	if digest != (shard.Digest{}) {
		tag = digest.String()
	}
	serveTagged(w, r, contentType, tag, content)
}

// serveTagged sends content under a strong entity tag, or under none if that is empty.
func serveTagged(w http.ResponseWriter, r *http.Request, contentType, tag string, content io.ReadSeeker) {
	header := w.Header()
	if tag != "" {
		header.Set("ETag", `"`+tag+`"`)
	}
	header.Set("Content-Type", contentType)
	http.ServeContent(w, r, "", time.Time{}, content)
}

// pin has the shard that is about to be sent kept by caches as keep says, if the request names its digest.
// It returns an error matching [fs.ErrNotExist] if the request names another one, so that
// no cache keeps bytes under a digest that they do not have. A shard without a known digest
// is not to be kept.
func pin(w http.ResponseWriter, r *http.Request, digest shard.Digest, keep string) error {
	named, ok := r.URL.Query()[wire.DigestQuery]
	if !ok || digest == (shard.Digest{}) {
		return nil
	}
	if !slices.Equal(named, []string{digest.String()}) {
		return fs.ErrNotExist
	}
	if r.Header["If-Match"] == nil { // which may be answered with 412
		w.Header().Set("Cache-Control", keep)
	}
	return nil
}
