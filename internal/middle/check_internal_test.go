package middle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// withoutFiles has no process of this one open another file until restore is called. No
// other test may run meanwhile.
func withoutFiles(t *testing.T) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	none := before
	none.Cur = 0
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	restore = func() { assert.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) }
	t.Cleanup(restore)
	return restore
}

// pages is a log that may be read while it is written.
type pages struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (p *pages) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(line)
}

func (p *pages) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// holding returns the directory of a middle that holds data as v1, in one shard.
func holding(t *testing.T, log *pages, data string) (directory, distfile.Entry) {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Middle)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	draft, err := st.Draft(1)
	require.NoError(t, err)
	m, err := shard.Cut(t.Context(), bytes.NewReader([]byte(data)),
		shard.Plan{Size: int64(len(data)), ShardSize: 100, Create: draft.Create})
	require.NoError(t, err)
	d := directory{store: st, logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	require.NoError(t, d.change(t.Context(), func(w *store.Writer) error { return w.Publish(draft, m) }))
	return d, distfile.Entry{Version: 1, Digest: sha256.Sum256([]byte(data))}
}

func TestVersionThatCannotBeReadNowStaysOnOffer(t *testing.T) {
	var log pages
	d, e := holding(t, &log, "the file")
	// The offers know the file by its other digest, once the manifest has been read.
	server := httptest.NewServer(nil)
	defer server.Close()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	pool, err := fetch.New(fetch.Options{Upstreams: []*url.URL{u}, Logger: d.logger})
	require.NoError(t, err)
	defer pool.Close()
	m := &Middle{dir: d, pool: pool}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		restore := withoutFiles(t)
		damaged := make(chan distfile.Entry)
		go checker{dir: d, logger: d.logger}.check(ctx, damaged)
		known := make(chan struct{})
		go func() {
			m.patiently(ctx, "read manifests", m.know)
			close(known)
		}()
		time.Sleep(time.Second / 2)
		synctest.Wait()
		assert.NotContains(t, log.String(), "fetched again")
		select {
		case <-known:
			assert.Fail(t, "the manifest is not known yet")
		default:
		}
		restore()
		<-known
		time.Sleep(2 * checkAgain)
		synctest.Wait()
		assert.Contains(t, log.String(), "held version is right")

		// A missing shard is wrong.
		require.NoError(t, os.Remove(filepath.Join(d.store.Dir(), "v1", "shard_001.bin")))
		go checker{dir: d, logger: d.logger}.check(ctx, damaged)
		assert.Equal(t, e, <-damaged)
	})
}
