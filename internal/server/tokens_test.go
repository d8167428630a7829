package server_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/swarm"
)

// tokenFile makes a file of tokens: those of gpu-7 and, as an administrator, of ops.
func tokenFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, "gpu-7 %x\nops %x admin\n", sha256.Sum256([]byte("reads")),
		sha256.Sum256([]byte("rules"))), 0o600))
	return name
}

// guarded are the options of a server with all endpoints that asks for tokens.
func guarded(t *testing.T) server.Options {
	t.Helper()
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	sign(t, st.Dir(), "signed")
	logger := slog.New(slog.DiscardHandler)
	tokens, err := server.NewTokens(tokenFile(t), logger)
	require.NoError(t, err)
	members := swarm.NewMembers(swarm.MembersOptions{Probe: server.Reach, Logger: logger})
	t.Cleanup(members.Close)
	return server.Options{
		Catalog: catalog.New(st, nil), Tokens: tokens, Metrics: metrics.New("origin", "1"), Members: members,
		Status: &server.Status{Role: "origin"}, Logger: logger,
	}
}

// readable are the paths for readers, and inner those for administrators.
var (
	readable = []string{
		"/distribution.txt", "/release.txt", "/v1/manifest.json", "/v1/SHA256SUMS", "/v1/shard_001.bin",
		"/v1/shard_001.bin?digest=" + digestOf("0123456789"), "/v1/stream", "/latest/stream", "/latest/manifest.json",
		"/peers.txt", "/py02/data1.bin", "/py03/distribution.txt",
	}
	inner = []string{"/", "/status.json", "/metrics", "/readyz", "/py01/metrics"}
)

func TestAllButHealthzWantsAToken(t *testing.T) {
	s := newSiteAs(t, guarded(t))
	assert.Equal(t, http.StatusOK, s.get(t, "/healthz").status)
	for _, path := range append(append([]string{"/missing", "/v9/shard_001.bin", "/v1/have"}, readable...), inner...) {
		for credentials, why := range map[string]string{
			"":                            `Bearer realm="shardcast"`,
			"Basic cmVhZHM6cmVhZHM=":      `Bearer realm="shardcast"`,
			"reads":                       `Bearer realm="shardcast"`,
			"Bearer":                      `Bearer realm="shardcast", error="invalid_token"`,
			"Bearer wrong":                `Bearer realm="shardcast", error="invalid_token"`,
			"Bearer " + digestOf("reads"): `Bearer realm="shardcast", error="invalid_token"`,
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				var fields []string
				if credentials != "" {
					fields = []string{"Authorization", credentials}
				}
				got := s.ask(t, method, path, fields...)
				assert.Equal(t, http.StatusUnauthorized, got.status, "%s by %q", path, credentials)
				assert.Equal(t, why, got.header.Get("WWW-Authenticate"))
				assert.Equal(t, "no-store", got.header.Get("Cache-Control"))
				assert.NotContains(t, got.header, "Etag")
				assert.NotContains(t, got.header, "Shardcast-Release")
			}
		}
	}
	assert.Equal(t, http.StatusUnauthorized, s.get(t, "/distribution.txt?access_token=reads").status,
		"URLs stand in logs")
}

func TestAReaderReadsAndAnAdministratorSeesTheInside(t *testing.T) {
	s := newSiteAs(t, guarded(t))
	for _, path := range readable {
		for _, credentials := range []string{"Bearer reads", "bearer reads", "BEARER  reads", "Bearer rules"} {
			assert.Equal(t, http.StatusOK, s.get(t, path, "Authorization", credentials).status, path)
		}
	}
	assert.Equal(t, http.StatusNotFound, s.get(t, "/missing", "Authorization", "Bearer reads").status)
	for _, path := range inner {
		assert.NotEqual(t, http.StatusForbidden, s.get(t, path, "Authorization", "Bearer rules").status, path)
		got := s.get(t, path, "Authorization", "Bearer reads")
		assert.Equal(t, http.StatusForbidden, got.status, path)
		assert.Equal(t, `Bearer realm="shardcast", error="insufficient_scope"`, got.header.Get("WWW-Authenticate"))
	}
}

func TestTwoTokensAreNone(t *testing.T) {
	s := newSiteAs(t, guarded(t))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/distribution.txt", http.NoBody)
	require.NoError(t, err)
	r.Header["Authorization"] = []string{"Bearer reads", "Bearer reads"}
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
}

// A cache that others ask, too, would ask them for no token.
func TestWithTokensNoSharedCacheKeepsAShard(t *testing.T) {
	s := newSiteAs(t, guarded(t))
	path := "/v1/shard_001.bin?digest=" + digestOf("0123456789")
	got := s.get(t, path, "Authorization", "Bearer reads")
	assert.Equal(t, "private, max-age=31536000, immutable", got.header.Get("Cache-Control"))
}

func TestAPageOfAnAllowedSiteMayShowAToken(t *testing.T) {
	opts := guarded(t)
	opts.Web.Origins = []string{"https://a.example"}
	s := newSiteAs(t, opts)
	preflight := s.ask(t, http.MethodOptions, "/v1/manifest.json", "Origin", "https://a.example",
		"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
	assert.Equal(t, http.StatusNoContent, preflight.status)
	assert.Contains(t, preflight.header.Get("Access-Control-Allow-Headers"), "Authorization")
	assert.Equal(t, http.StatusUnauthorized, s.get(t, "/v1/manifest.json", "Origin", "https://a.example").status)
	assert.Equal(t, http.StatusOK,
		s.get(t, "/v1/manifest.json", "Origin", "https://a.example", "Authorization", "Bearer reads").status)
}

func TestTokensAreReadAgainAndABadFileLeavesThemInUse(t *testing.T) {
	name := tokenFile(t)
	log := new(logged)
	said := func() string { return strings.Join(log.all(t, 0), "") }
	logger := slog.New(slog.NewTextHandler(log, nil))
	tokens, err := server.NewTokens(name, logger)
	require.NoError(t, err)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(open(t, t.TempDir()), nil), Tokens: tokens})
	status := func(token string) int { return s.get(t, "/distribution.txt", "Authorization", "Bearer "+token).status }
	assert.Equal(t, http.StatusOK, status("reads"))

	write(t, name, "gpu-7 s3cret\n")
	for range 3 {
		tokens.Reload()
	}
	assert.Equal(t, http.StatusOK, status("reads"))
	assert.Equal(t, 1, strings.Count(said(), "level=WARN"), said())
	assert.Contains(t, said(), `line 1: gpu-7 has no SHA-256`)
	assert.NotContains(t, said(), "s3cret")

	write(t, name, fmt.Sprintf("gpu-8 %x\n", sha256.Sum256([]byte("other"))))
	tokens.Reload()
	assert.Equal(t, http.StatusUnauthorized, status("reads"))
	assert.Equal(t, http.StatusOK, status("other"))
	assert.Contains(t, said(), `msg="tokens reloaded"`)
}

func TestTheNameOfATokenIsInTheLogAndOnTheStatusPage(t *testing.T) {
	opts, log := guarded(t), new(logged)
	opts.AccessLog = log
	s := newSiteAs(t, opts)
	var page string
	for i, tc := range []struct{ path, token, want string }{
		{"/v1/shard_001.bin", "reads", `^127\.0\.0\.1 - gpu-7 \[.*\] "GET /v1/shard_001.bin HTTP/1.1" 200 `},
		{"/v1/shard_001.bin", "wrong", `^127\.0\.0\.1 - - \[.*\] "GET /v1/shard_001.bin HTTP/1.1" 401 `},
		{"/status.json", "rules", `^127\.0\.0\.1 - ops \[.*\] "GET /status.json HTTP/1.1" 200 `},
		{"/", "rules", `^127\.0\.0\.1 - ops \[.*\] "GET / HTTP/1.1" 200 `},
	} {
		page += s.get(t, tc.path, "Authorization", "Bearer "+tc.token).body
		line := log.all(t, i+1)[i]
		assert.Regexp(t, tc.want, line)
		assert.NotContains(t, line, tc.token)
	}
	assert.Contains(t, page, `"downloads":[{"client":"127.0.0.1","reader":"gpu-7","version":"v1"`)
	assert.Contains(t, page, ">gpu-7 at 127.0.0.1</th>")
}

func TestASecondAddressHasTheInsideAlone(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]server.Options{"tokens": guarded(t), "none": guarded(t)} {
		t.Run(name, func(t *testing.T) {
			if name == "none" {
				opts.Tokens = nil
			}
			addrs := make(chan string, 1)
			opts.AdminAddr = ":0"
			opts.Logger = slog.New(addrHandler{slog.DiscardHandler, addrs})
			r := serveAs(t, opts)
			second := site{"http://" + <-addrs, r.client}
			assert.Contains(t, second.url, "//127.0.0.1:")
			for _, path := range append([]string{"/healthz"}, inner...) {
				assert.Equal(t, http.StatusOK, second.get(t, path).status, path)
			}
			for _, path := range readable {
				assert.Equal(t, http.StatusNotFound, second.get(t, path).status, path)
			}
			foreign, err := http.NewRequestWithContext(t.Context(), http.MethodGet, second.url+"/metrics", http.NoBody)
			require.NoError(t, err)
			foreign.Host = "evil.example"
			resp, err := second.client.Do(foreign)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusMisdirectedRequest, resp.StatusCode)
			for _, path := range inner {
				assert.Equal(t, http.StatusNotFound, r.get(t, path, "Authorization", "Bearer rules").status, path)
			}
			assert.Equal(t, http.StatusOK, r.get(t, "/healthz").status)
			assert.Equal(t, http.StatusOK, r.get(t, "/v1/stream", "Authorization", "Bearer reads").status)
		})
	}
}

func TestASecondAddressThatIsTakenEndsTheServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	opts := guarded(t)
	opts.AdminAddr = ln.Addr().String()
	err = server.Serve(t.Context(), ln, opts)
	require.ErrorContains(t, err, "serve operators: ")
	_, err = net.Dial("tcp", ln.Addr().String())
	require.Error(t, err, "the listener is closed")
}

// addrHandler is a log that tells at which second address a server listens.
type addrHandler struct {
	slog.Handler

	addrs chan<- string
}

func (h addrHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h addrHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "listening for operators" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "addr" {
				h.addrs <- a.Value.String()
			}
			return true
		})
	}
	return nil
}
