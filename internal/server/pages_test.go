package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/wire"
)

// under asks the handler of a server for a path by a name.
func under(h http.Handler, name, path string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.Host = name
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAPageUnderAForeignNameReadsNothing(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	sign(t, st.Dir(), "signed")
	var log strings.Builder
	h := server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", "1"), Status: &server.Status{Role: "origin"},
		Web:    server.Web{Names: wire.Names{Allowed: []string{"weights.example.com"}}, Origins: []string{"*"}},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	for _, path := range []string{
		"/", "/status.json", "/metrics", "/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin", "/healthz",
		"/readyz", "/release.txt", "/v1/stream", "/latest/stream", "/py03/distribution.txt", "/no",
	} {
		got := under(h, "page.example:8000", path)
		assert.Equal(t, http.StatusMisdirectedRequest, got.Code, path)
		assert.Empty(t, got.Header().Get("Access-Control-Allow-Origin"), path)
		assert.Contains(t, got.Body.String(), "--allow-host", path)
		if path != "/no" {
			for _, name := range []string{"127.0.0.1:8000", "[::1]", "localhost", "origin", "weights.example.com:80"} {
				assert.Equal(t, http.StatusOK, under(h, name, path).Code, "%s%s", name, path)
			}
			assert.Equal(t, http.StatusOK, under(h, "page.example", path, "Sec-Shardcast", "1").Code, "a node asks")
		}
	}
	for i := range 100 {
		under(h, strconv.Itoa(i)+".example", "/")
	}
	assert.LessOrEqual(t, strings.Count(log.String(), "\n"), 16, "a name from the network fills no log")
}

func TestNoPageOfAnotherSiteMayEmbedAnAnswer(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	opts := server.Options{
		Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", "1"), Status: &server.Status{Role: "origin"},
		Logger: slog.New(slog.DiscardHandler),
	}
	closed := server.NewHandler(opts)
	opts.Web.Origins = []string{"*"}
	allowing := server.NewHandler(opts)
	versions := []string{
		"/distribution.txt", "/release.txt", "/v1/manifest.json", "/v1/shard_001.bin", "/v1/stream", "/healthz", "/no",
	}
	operators := []string{"/", "/status.json", "/metrics"}
	for _, path := range slices.Concat(versions, operators) {
		for _, name := range []string{"localhost", "page.example"} {
			got := under(closed, name, path)
			assert.Equal(t, "same-origin", got.Header().Get("Cross-Origin-Resource-Policy"), "%s %s", name, path)
			assert.Equal(t, "nosniff", got.Header().Get("X-Content-Type-Options"), "%s %s", name, path)
		}
	}
	for _, path := range versions {
		got := under(allowing, "localhost", path)
		assert.Empty(t, got.Header().Get("Cross-Origin-Resource-Policy"), path)
		assert.Equal(t, "nosniff", got.Header().Get("X-Content-Type-Options"), path)
	}
	for _, path := range operators {
		got := under(allowing, "localhost", path)
		assert.Equal(t, "same-origin", got.Header().Get("Cross-Origin-Resource-Policy"), path)
	}
}

// A node of a swarm has an address for its peers, which browsers reach as well.
func TestAPageReadsNothingOfANodesShards(t *testing.T) {
	board := relay.NewBoard()
	h := server.NewHandler(server.Options{Catalog: catalog.New(nil, board), Logger: slog.New(slog.DiscardHandler)})
	for _, path := range []string{"/healthz", "/v1/shard_001.bin", "/v1/have", "/no"} {
		foreign := under(h, "page.example", path, "Origin", "http://page.example")
		assert.Equal(t, http.StatusMisdirectedRequest, foreign.Code, path)
		got := under(h, "127.0.0.1:8000", path, "Origin", "http://page.example")
		assert.NotEqual(t, http.StatusMisdirectedRequest, got.Code, path)
		assert.Empty(t, got.Header().Get("Access-Control-Allow-Origin"), path)
		assert.Equal(t, "same-origin", got.Header().Get("Cross-Origin-Resource-Policy"), path)
	}
}
