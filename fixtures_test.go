package shardcast_test

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick are options without long waits.
var quick = shardcast.FetchOptions{Attempts: 2, FastWait: time.Millisecond, SlowWait: time.Millisecond}

// file makes a file that holds text.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weights.bin")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// server is an Origin or a Middle.
type server interface {
	Listen() (net.Listener, error)
	Serve(ctx context.Context, ln net.Listener) error
	Close() error
}

// serve has s serve until the test ends, and returns its address.
func serve(t *testing.T, s server) string {
	t.Helper()
	ln, err := s.Listen()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
		assert.NoError(t, s.Close())
	})
	return ln.Addr().String()
}

// newOrigin returns an origin that serves dir, and its address.
func newOrigin(t *testing.T, dir string) (*shardcast.Origin, string) {
	t.Helper()
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: dir, Host: "127.0.0.1", Port: -1, ShardSize: 4})
	require.NoError(t, err)
	return o, serve(t, o)
}

func newClient(t *testing.T, opts shardcast.ClientOptions) *shardcast.Client {
	t.Helper()
	opts.Fetch = quick
	c, err := shardcast.NewClient(opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// plain is a server of texts by path, which counts its requests. For a path without
// a text it answers 500.
type plain struct {
	*httptest.Server

	mu    sync.Mutex // guards asked
	asked map[string]int
}

func newPlain(t *testing.T, texts map[string]string) *plain {
	t.Helper()
	p := &plain{asked: make(map[string]int)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[r.URL.Path]++
		p.mu.Unlock()
		if text, ok := texts[r.URL.Path]; ok {
			_, _ = w.Write([]byte(text))
		} else {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// counts returns the number of requests for each path.
func (p *plain) counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.asked)
}
