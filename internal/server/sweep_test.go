package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/store"
)

func TestRetiredVersionIsRemovedAMinuteAfterItsLastReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shard := filepath.Join(dir, ".shardcast", "retired", "v1", "shard_001.bin")
	require.NoError(t, os.MkdirAll(filepath.Dir(shard), 0o755))
	require.NoError(t, os.WriteFile(shard, []byte("retired"), 0o644))
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(dir, store.Origin)
		require.NoError(t, err)
		defer st.Close() //nolint:errcheck // of what was only read
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			sweep(ctx, catalog.New(st, nil), slog.New(slog.DiscardHandler))
			close(ended)
		}()

		f, done, err := st.Shard(1, 1)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.FileExists(t, shard)
		require.NoError(t, f.Close())
		done()
		time.Sleep(sweepIdle - time.Second)
		require.FileExists(t, shard)
		time.Sleep(sweepEvery + time.Second)
		synctest.Wait()
		require.NoFileExists(t, shard)

		cancel()
		<-ended
	})
}
