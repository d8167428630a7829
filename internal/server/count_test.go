package server_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
)

// logged is what was written, a call of Write each.
type logged struct {
	mu      sync.Mutex // guards what follows
	written []string
	err     error
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written = append(l.written, string(p))
	return len(p), l.err
}

// all returns what was written by the time that an answer more has been given: a line is
// written when the client may have its answer already.
func (l *logged) all(t *testing.T, count int) []string {
	t.Helper()
	var all []string
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		all = append([]string(nil), l.written...)
		return len(all) >= count
	}, patience, time.Millisecond)
	return all
}

// value returns the value of a metric, as it is written.
func value(t *testing.T, m *metrics.Metrics, name string) string {
	t.Helper()
	text, err := m.Text()
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`).FindSubmatch(text)
	if found == nil {
		return "none"
	}
	return string(found[1])
}

// has waits until a metric has a value: an answer is counted when the client may have it
// already.
func has(t *testing.T, m *metrics.Metrics, name, want string) {
	t.Helper()
	assert.Eventually(t, func() bool { return value(t, m, name) == want }, patience, time.Millisecond,
		"%s is %s instead of %s", name, value(t, m, name), want)
}

func TestAnswersAreCountedByKindAndStatus(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "0123456789abcdef")
	m := metrics.New("origin", "")
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: m})
	for path, status := range map[string]int{
		"/distribution.txt":      200,
		"/v1/manifest.json":      200,
		"/v1/SHA256SUMS":         200,
		"/v1/shard_001.bin":      200,
		"/v1/shard_00002.bin":    200,
		"/v1/shard_003.bin":      404,
		"/v2/manifest.json":      404,
		"/unfinished.jsonl":      404,
		"/healthz":               200,
		"/readyz":                200,
		"/py03/data1.bin":        200,
		"/data1.bin":             404,
		"/metrics/":              404,
		"/metricsz":              404,
		"/metrics.txt":           404,
		"/v1/metrics":            404,
		"/readyz/x":              404,
		"/py03/distribution.txt": 200,
	} {
		assert.Equal(t, status, s.get(t, path).status, path)
	}
	assert.Equal(t, 206, s.get(t, "/v1/shard_001.bin", "Range", "bytes=2-4").status)
	assert.Equal(t, 200, s.ask(t, http.MethodHead, "/v1/shard_001.bin").status)
	assert.Equal(t, 405, s.ask(t, http.MethodPut, "/v1/shard_001.bin").status)
	for name, want := range map[string]string{
		`shardcast_http_requests_total{code="200",kind="distribution"}`: "2",
		`shardcast_http_requests_total{code="200",kind="manifest"}`:     "1",
		`shardcast_http_requests_total{code="404",kind="manifest"}`:     "1",
		`shardcast_http_requests_total{code="200",kind="sums"}`:         "1",
		`shardcast_http_requests_total{code="200",kind="shard"}`:        "3",
		`shardcast_http_requests_total{code="206",kind="shard"}`:        "1",
		`shardcast_http_requests_total{code="404",kind="shard"}`:        "1",
		`shardcast_http_requests_total{code="405",kind="shard"}`:        "1",
		`shardcast_http_requests_total{code="200",kind="healthz"}`:      "1",
		`shardcast_http_requests_total{code="200",kind="readyz"}`:       "1",
		`shardcast_http_requests_total{code="200",kind="probe"}`:        "1",
		`shardcast_http_requests_total{code="404",kind="probe"}`:        "1",
		`shardcast_http_requests_total{code="404",kind="other"}`:        "6",
		`shardcast_http_requests_in_flight{kind="shard"}`:               "0",
		`shardcast_sent_bytes_total{kind="probe"}`:                      "1.00001e+06", // and "Not Found\n"
		`shardcast_versions_held`:                                       "1",
		`shardcast_shards_held`:                                         "2",
		`shardcast_newest_version`:                                      "1",
		`shardcast_ready`:                                               "1",
	} {
		has(t, m, name, want)
	}
	assert.NotContains(t, []string{"none", "0"}, value(t, m, "shardcast_disk_used_bytes"))
	shards := 10 + 6 + 3 + len("Not Found\n") + len("only GET and HEAD are answered here\n")
	has(t, m, `shardcast_sent_bytes_total{kind="shard"}`, strconv.Itoa(shards))
}

func TestNothingThatAClientSendsIsALabel(t *testing.T) {
	st := open(t, t.TempDir())
	m := metrics.New("origin", "")
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: m})
	text, err := m.Text()
	require.NoError(t, err)
	series := bytes.Count(text, []byte("\nshardcast_http_requests_total"))
	for _, method := range []string{"GET", "BREW", "OPTIONS"} {
		for _, path := range []string{
			"/marker", "/v7/marker", "/v999/shard_marker.bin", "/%22marker%0a",
			"/metrics?marker=1", "/healthz?marker",
		} {
			s.ask(t, method, path, "User-Agent", "marker", "Referer", "marker", "Range", "marker")
		}
	}
	has(t, m, `shardcast_http_requests_total{code="405",kind="other"}`, "8")
	text, err = m.Text()
	require.NoError(t, err)
	assert.NotContains(t, string(text), "marker")
	assert.NotContains(t, string(text), "BREW")
	assert.LessOrEqual(t, bytes.Count(text, []byte("\nshardcast_http_requests_total")), series+6,
		"kinds and statuses alone")
}

func TestMetricsAreScraped(t *testing.T) {
	st := open(t, t.TempDir())
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", "v9")})
	got := s.get(t, "/metrics")
	assert.Equal(t, 200, got.status)
	assert.Equal(t, metrics.ContentType, got.header.Get("Content-Type"))
	assert.Contains(t, got.body, "\n"+`shardcast_build_info{role="origin",version="v9"} 1`+"\n")
	assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"), "a page of another site may read it")
	assert.Equal(t, 404, newSite(t, st).get(t, "/metrics").status, "without metrics")
}

func TestAServerOfTheNewestVersionIsReady(t *testing.T) {
	st := open(t, t.TempDir())
	m := metrics.New("middle", "")
	var why error
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: m, Ready: func() error { return why }})
	got := s.get(t, "/readyz")
	assert.Equal(t, 200, got.status)
	assert.Equal(t, "ok\n", got.body)
	has(t, m, "shardcast_ready", "1")
	why = errors.New("v7 is not here")
	got = s.get(t, "/readyz")
	assert.Equal(t, 503, got.status)
	assert.Equal(t, "v7 is not here\n", got.body)
	has(t, m, "shardcast_ready", "0")
	assert.Equal(t, 200, s.get(t, "/healthz").status, "it lives all the same")
}

// combined is a line of the Combined Log Format, with the seconds after it.
var combined = regexp.MustCompile(`^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] ` +
	`"([^"\\]|\\x[0-9A-F]{2})*" \d{3} \d+ "([^"\\]|\\x[0-9A-F]{2})*" "([^"\\]|\\x[0-9A-F]{2})*" \d+\.\d{6}\n$`)

func TestAccessLogHasALineForEachAnswer(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "0123456789abcdef")
	log := new(logged)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), AccessLog: log})
	for i, tc := range []struct{ method, path, want string }{
		{"GET", "/v1/shard_001.bin", `"GET /v1/shard_001.bin HTTP/1.1" 200 10 "http://there/" "some agent/1.0" `},
		{"HEAD", "/v1/shard_001.bin", `"HEAD /v1/shard_001.bin HTTP/1.1" 200 0 `},
		{"GET", "/v1/shard_009.bin?digest=1", `"GET /v1/shard_009.bin?digest=1 HTTP/1.1" 404 10 `},
		{"POST", "/", `"POST / HTTP/1.1" 405 `},
	} {
		s.ask(t, tc.method, tc.path, "User-Agent", "some agent/1.0", "Referer", "http://there/")
		line := log.all(t, i+1)[i]
		assert.Regexp(t, combined, line)
		assert.Contains(t, line, tc.want)
	}
}

func TestNoClientForgesALineOfTheAccessLog(t *testing.T) {
	st := open(t, t.TempDir())
	log := new(logged)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), AccessLog: log})
	conn := dial(t, strings.TrimPrefix(s.url, "http://"))
	_, err := conn.Write([]byte("GET /\"\\\xc3\xa4\x80%0a%22 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
		"User-Agent: a\" 200 \\\t\xff\xe2\x80\xa8" + strings.Repeat("u", 5000) + "\r\nReferer: \"\r\n\r\n"))
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.NoError(t, err)
	line := log.all(t, 1)[0]
	assert.Regexp(t, combined, line)
	assert.Contains(t, line, `"GET /\x22\x5C\xC3\xA4\x80%0a%22 HTTP/1.1" 404 `)
	assert.Contains(t, line, ` "\x22" "a\x22 200 \x5C\x09\xFF\xE2\x80\xA8uuu`)
	assert.Less(t, len(line), 3000)
}

func TestAnAccessLogThatFailsHoldsUpNoAnswer(t *testing.T) {
	st := open(t, t.TempDir())
	log := &logged{err: errors.New("disk full")}
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), AccessLog: log})
	for range 3 {
		assert.Equal(t, 200, s.get(t, "/healthz").status)
	}
	log.all(t, 3)
}

func TestALargeShardComesWholeWhenItIsCounted(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	const size = 9<<20 + 7
	large(t, dir, 1, size)
	m := metrics.New("origin", "")
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: m})
	assert.Len(t, s.get(t, "/v1/"+shard.FileName(1)).body, size)
	assert.Len(t, s.get(t, "/v1/"+shard.FileName(1), "Range", "bytes=7-").body, size-7)
	has(t, m, `shardcast_sent_bytes_total{kind="shard"}`, "1.8874375e+07")
}

func TestBytesToASlowReaderAreCountedAsTheyAreSent(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	large(t, dir, 1, 64<<20)
	m := metrics.New("origin", "")
	srv := httptest.NewUnstartedServer(server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil), Metrics: m, Logger: slog.New(slog.DiscardHandler),
	}))
	srv.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && state == http.StateNew {
			assert.NoError(t, tcp.SetWriteBuffer(1<<20))
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	conn := dial(t, srv.Listener.Addr().String())
	require.NoError(t, conn.SetReadBuffer(64<<10))
	_, err := conn.Write([]byte("GET /v1/shard_001.bin HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.NoError(t, err)
	// It reads nothing, so what is sent is what the system holds for it, a few MiB at most.
	assert.Eventually(t, func() bool { return value(t, m, `shardcast_sent_bytes_total{kind="shard"}`) != "0" },
		patience, time.Millisecond)
}
