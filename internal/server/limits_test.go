package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/slots"
)

const shardPath = "/v1/shard_001.bin"

// held has a reader begin a shard that it does not read on, until leave is called.
func (s site) held(t *testing.T, fields ...string) (leave func()) {
	t.Helper()
	conn := dial(t, strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, conn.SetReadBuffer(4096))
	resp := begin(t, conn, shardPath, fields...)
	t.Cleanup(func() {
		_ = conn.Close() // first, or the body would be read to its end
		_ = resp.Body.Close()
	})
	return func() { _ = conn.Close() }
}

func TestShardsBeyondTheMostAreRefusedUntilOneHasBeenSent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limits slots.Limits
		text   string
	}{
		"all":        {slots.Limits{Connections: 2}, "too many shards are being sent already\n"},
		"one client": {slots.Limits{ConnectionsPerClient: 2}, "too many shards are being sent already to 127.0.0.1\n"},
		"both": {
			slots.Limits{Connections: 3, ConnectionsPerClient: 2},
			"too many shards are being sent already to 127.0.0.1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			large(t, dir, 1, largeSize)
			s := newLimitedSite(t, open(t, dir), tc.limits)
			first, second := s.held(t), s.held(t)

			for _, path := range []string{shardPath, "/v1/shard_007.bin", "/v7/shard_001.bin"} {
				got := s.get(t, path, "Range", "bytes=0-0")
				assert.Equal(t, http.StatusServiceUnavailable, got.status, "before anything is looked for")
				assert.Equal(t, "2", got.header.Get("Retry-After"))
				assert.Equal(t, tc.text, got.body)
				assert.Equal(t, "text/plain; charset=utf-8", got.header.Get("Content-Type"))
			}
			assert.Equal(t, http.StatusOK, s.ask(t, http.MethodHead, shardPath).status, "HEAD sends no shard")
			for path, want := range map[string]int{
				"/distribution.txt": 200, "/healthz": 200, "/v1/manifest.json": 404,
			} {
				assert.Equal(t, want, s.get(t, path).status, path)
			}

			for _, leave := range []func(){first, second} {
				leave()
				require.Eventually(t, func() bool {
					got := s.get(t, shardPath, "Range", "bytes=0-0")
					return got.status == http.StatusPartialContent && got.body == "\x00"
				}, patience, time.Millisecond, "one has left")
			}
		})
	}
}

func TestIdleConnectionsAndRequestsThatFailedDoNotCount(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	s := newLimitedSite(t, st, slots.Limits{Connections: 1, ConnectionsPerClient: 1})
	addr := strings.TrimPrefix(s.url, "http://")
	idle := dial(t, addr)
	_ = begin(t, idle, "/healthz").Body.Close()
	// One after the other, on the same connection or not, and however each ended.
	for range 3 {
		for path, want := range map[string]int{shardPath: http.StatusOK, "/v1/shard_009.bin": http.StatusNotFound} {
			assert.Equal(t, want, s.settle(t, path), path)
		}
		assert.Equal(t, http.StatusNotModified, s.settle(t, shardPath, "If-None-Match", quoted(m.Shards[0])))
		assert.Equal(t, http.StatusRequestedRangeNotSatisfiable, s.settle(t, shardPath, "Range", "bytes=99-"))
	}
}

// settle returns the status of an answer once the one before has been forgotten,
// which a reader can be a moment ahead of.
func (s site) settle(t *testing.T, path string, fields ...string) (status int) {
	t.Helper()
	require.Eventually(t, func() bool {
		status = s.get(t, path, fields...).status
		return status != http.StatusServiceUnavailable
	}, patience, time.Millisecond)
	return status
}

// holding is the other end of a reader that takes nothing until it is let go.
type holding struct {
	*httptest.ResponseRecorder

	once  sync.Once
	began chan struct{}
	until context.Context //nolint:containedctx // that of the reader
}

func (h *holding) Write(p []byte) (int, error) {
	h.once.Do(func() { close(h.began) })
	<-h.until.Done()
	return len(p), nil
}

func TestConnectionsOfOneAddressAreNotAnothers(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler := server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil),
		Limits:  slots.Limits{Connections: 5, ConnectionsPerClient: 2}, Logger: logger,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	request := func(remote string) *http.Request {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+shardPath, http.NoBody)
		r.RemoteAddr = remote
		return r
	}
	hold := func(remote string) {
		w := &holding{ResponseRecorder: httptest.NewRecorder(), began: make(chan struct{}), until: ctx}
		group.Go(func() { handler.ServeHTTP(w, request(remote)) })
		<-w.began
	}
	status := func(remote string) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request(remote))
		return w.Code
	}

	hold("192.0.2.1:1001")
	assert.Equal(t, http.StatusOK, status("192.0.2.1:1002"))
	hold("192.0.2.1:1003")
	assert.Equal(t, http.StatusServiceUnavailable, status("192.0.2.1:1004"), "the port is no part of the address")
	assert.Equal(t, http.StatusOK, status("192.0.2.2:1001"))
	hold("[2001:db8::1]:1001")
	hold("[2001:db8::1]:1002")
	assert.Equal(t, http.StatusServiceUnavailable, status("[2001:db8::1]:1003"))
	assert.Equal(t, http.StatusOK, status("[2001:db8::2]:1001"))
	hold("@")
	assert.Equal(t, http.StatusServiceUnavailable, status("192.0.2.2:1001"), "five are the most")
	assert.Equal(t, 3, strings.Count(log.String(), "level=DEBUG msg=\"shard refused\" path=/v1/shard_001.bin client="))
	assert.Equal(t, 3, strings.Count(log.String(), "\n"), "one line each, and no other")
}
