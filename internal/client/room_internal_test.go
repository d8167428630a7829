package client

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
)

// reflinked is a file on a file system where files share all blocks, which no test can count on.
type reflinked struct{ partial.Content }

func (reflinked) Shared(_ *os.File, _, _, size int64) int64 { return size }

func TestBytesOfASeedThatAreThereAreNotCountedAsShared(t *testing.T) {
	const size, resumed = 1 << 20, 1 << 19
	data := make([]byte, 2*size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	m := shard.Manifest{
		Size: 2 * size, ShardSize: size, Digest: sha256.Sum256(data),
		Shards: []shard.Digest{sha256.Sum256(data[:size]), sha256.Sum256(data[size:])},
	}
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed")
	require.NoError(t, os.WriteFile(seed, data, 0o600))
	open := func() *output {
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		out, err := create(t.Context(), partial.Target{Dir: root, Base: "out"}, m, nil, false)
		require.NoError(t, err)
		return out
	}
	out := open()
	_, err := out.content.WriteAt(data[:resumed], 0)
	require.NoError(t, err)
	require.NoError(t, out.close(true))
	out = open()
	defer func() { require.NoError(t, out.close(false)) }()
	out.content = reflinked{out.content}
	out.known = reuse.New(m, nil, slog.New(slog.DiscardHandler))
	out.known.Version(m, nil, reuse.File(seed))
	assert.InDelta(t, size-resumed+size, out.shareable(m), 64<<10, "the last block that is there may be in part")
	out.needed = map[int]bool{2: true}
	assert.EqualValues(t, size, out.shareable(m), "of one shard")

	// It has copied nothing: that comes when the shard is opened.
	place, err := out.Open(m.Shard(2))
	require.NoError(t, err)
	there, err := place.Written()
	require.NoError(t, err)
	assert.Equal(t, []disk.Range{{From: 0, To: size}}, there)
	got := make([]byte, size)
	_, err = place.ReadAt(got, 0)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data[size:], got))
}
