package rebuild_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/rebuild"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/transfer"
)

// arrived is a stream whose shards are all there.
type arrived []byte

func (a arrived) Open(s shard.Shard) (transfer.Place, error) {
	return part{bytes.NewReader(a[s.Offset:][:s.Size])}, nil
}

type part struct{ *bytes.Reader }

func (part) WriteAt([]byte, int64) (int, error)     { return 0, io.ErrShortWrite }
func (part) Written() (there []disk.Range, _ error) { return nil, nil }
func (part) Commit() error                          { return nil }
func (part) Close() error                           { return nil }

func TestAVersionBetweenIsReadFromTheShardsOfADelta(t *testing.T) {
	_, base, target, text := version(t)
	content := shard.Manifest{Size: int64(len(text)), ShardSize: 10, Digest: sha256.Sum256(text)}
	content.Shards = make([]shard.Digest, (len(text)+9)/10)
	between, err := rebuild.NewTarget(t.Context(), content, arrived(text), stream(base), int64(len(target)))
	require.NoError(t, err)
	defer between.Close()
	got, err := io.ReadAll(io.NewSectionReader(between, 0, between.Size()))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(target, got))

	_, err = rebuild.NewTarget(t.Context(), content, arrived(text), stream(base), int64(len(target))+1)
	require.ErrorContains(t, err, "and the version has")
	_, err = rebuild.NewTarget(t.Context(), content, arrived(text), stream(base[1:]), int64(len(target)))
	require.ErrorContains(t, err, "it is for a base of")
}

// TestAVersionBetweenEndsWithItsFetch has a fetch that ends while one read makes block after block.
func TestAVersionBetweenEndsWithItsFetch(t *testing.T) {
	_, base, target, text := version(t)
	content := shard.Manifest{Size: int64(len(text)), ShardSize: int64(len(text)), Shards: make([]shard.Digest, 1)}
	ctx, cancel := context.WithCancelCause(t.Context())
	between, err := rebuild.NewTarget(ctx, content, arrived(text), stream(base), int64(len(target)))
	require.NoError(t, err)
	defer between.Close()
	cancel(io.ErrClosedPipe)
	_, err = between.ReadAt(make([]byte, len(target)), 0)
	require.ErrorIs(t, err, io.ErrClosedPipe)
}
