package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
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
	var log strings.Builder
	h := server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", "1"), Status: &server.Status{Role: "origin"},
		Web:    server.Web{Names: wire.Names{Allowed: []string{"weights.example.com"}}, Origins: []string{"*"}},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	for _, path := range []string{
		"/", "/status.json", "/metrics", "/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin", "/healthz",
		"/no",
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
