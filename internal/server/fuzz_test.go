package server_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
)

// secret is in a file beside the data directory, and in one of its private directory.
const secret = "none of a reader's business"

// FuzzRequest sends a whole request, as it stands, through the handler: no fault of ours, and
// nothing that is not to be served.
func FuzzRequest(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "data")
	st, err := store.Open(dir, store.Origin)
	require.NoError(f, err)
	defer func() { _ = st.Close() }()
	manifest := publishFor(f, st)
	for _, name := range []string{"../secret", ".shardcast/secret", "secret"} {
		require.NoError(f, os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600))
	}
	members := swarm.NewMembers(swarm.MembersOptions{Logger: slog.New(slog.DiscardHandler)})
	defer members.Close()
	handler := server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", "1"), Status: &server.Status{Role: "origin"},
		Members: members, Web: server.Web{Origins: []string{"https://page.example"}},
		Limits: slots.Limits{Connections: 4, ConnectionsPerClient: 4}, Logger: slog.New(slog.DiscardHandler),
	})
	tag := `"` + manifest.Digest.String() + `"`
	for _, path := range []string{
		"/", "/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin", "/v1/SHA256SUMS", "/status.json",
		"/metrics",
		"/healthz", "/readyz", "/peers.txt", "/py01/distribution.txt", "/py03/data1.bin", "/py03/v1/shard_1.bin",
		"/../secret", "/v1/../../secret", "/%2e%2e/secret", "/.shardcast/secret", "/v1/..%2f..%2fsecret", "//secret",
		"/v1/shard_001.bin?digest=" + manifest.Shards[0].String(), "/v1/have?digest=00", "http://page.example/", "*",
	} {
		f.Add([]byte("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	}
	for _, field := range []string{
		"Range: bytes=0-3,5-6", "Range: bytes=-0", "Range: bytes=9223372036854775807-", "Range: bytes=0-,0-,0-",
		"If-None-Match: " + tag, `If-None-Match: W/"a", "b`, "If-None-Match: *", `If-None-Match: """,,W/W/"`,
		"If-Range: " + tag, "If-Match: *", "Prefer: wait=9", "Shardcast-Swarm: fresh", "Shardcast-Peer: 127.0.0.1:9",
		"Shardcast-Tier: -1", "Origin: https://page.example", "Host: page.example", "Content-Length: 3\r\n\r\nabc",
	} {
		f.Add([]byte("GET /v1/shard_001.bin HTTP/1.1\r\nHost: localhost\r\n" + field + "\r\n\r\n"))
		f.Add([]byte("HEAD /distribution.txt HTTP/1.0\r\n" + field + "\r\n\r\n"))
	}
	f.Add([]byte("OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: https://page.example\r\n" +
		"Access-Control-Request-Method: GET\r\n\r\n"))
	f.Add([]byte("POST /v1/shard_001.bin HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(raw))))
		if err != nil || strings.HasSuffix(r.URL.Path, "/have") && r.Method == http.MethodGet {
			return // the server has answered; or the answer has no end
		}
		r.RemoteAddr = "192.0.2.1:1"
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		resp := w.Result()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NotEqual(t, http.StatusInternalServerError, resp.StatusCode, "%q", raw)
		require.NotContains(t, string(body), secret, "%q", raw)
		if resp.Header.Get("Content-Type") == "application/json" && resp.StatusCode == http.StatusOK &&
			r.Method == http.MethodGet {
			require.True(t, json.Valid(body), "%q", raw)
		}
	})
}

// publishFor publishes a version for a fuzz test.
func publishFor(f *testing.F, st *store.Store) shard.Manifest {
	f.Helper()
	d, err := st.Draft(1)
	require.NoError(f, err)
	m, err := shard.Cut(f.Context(), strings.NewReader(text),
		shard.Plan{Size: int64(len(text)), ShardSize: 10, Create: d.Create})
	require.NoError(f, err)
	m.Name = "</script>\x00\u2028.bin"
	w, err := st.Lock(f.Context())
	require.NoError(f, err)
	require.NoError(f, w.Publish(d, m))
	require.NoError(f, w.Unlock())
	return m
}
