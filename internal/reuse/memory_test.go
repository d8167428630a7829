package reuse_test

import (
	"encoding/binary"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// counted counts the bytes that are copied, and looks once when the middle has come.
type counted struct {
	bytes, middle int64
	look          func()
}

func (c *counted) WriteAt(p []byte, _ int64) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

func (c *counted) CopyAt(_ *os.File, _, _, size int64) error {
	if c.bytes += size; c.bytes > c.middle && c.look != nil {
		c.look()
		c.look = nil
	}
	return nil
}

// nowhere is a stream of files of which nothing is read.
type nowhere struct{}

func (nowhere) Parts(offset, size int64) iter.Seq2[reuse.Part, error] {
	return func(yield func(reuse.Part, error) bool) {
		yield(reuse.Part{File: os.Stdin, At: offset, Size: size}, nil)
	}
}

// inUse returns the bytes that are allocated and in use.
func inUse() int64 {
	var now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&now)
	return int64(now.HeapAlloc)
}

// A client has 64 MiB for everything, and a list of 100,000 files takes 6 of them.
func TestSourcesOfManyFilesTakeLittleMemory(t *testing.T) {
	files := make([]tree.File, shard.MaxFiles)
	for i := range files {
		files[i] = tree.File{Path: fmt.Sprintf("%06d", i), Size: 1000}
		binary.LittleEndian.PutUint32(files[i].Digest[:], uint32(i)+1)
	}
	laid, err := tree.Lay(files)
	require.NoError(t, err)
	m := shard.Manifest{Size: laid.Size(), ShardSize: laid.Size(), Digest: shard.Digest{1}, Shards: []shard.Digest{{2}}}
	other := m
	other.Digest, other.Shards = shard.Digest{3}, []shard.Digest{{4}}
	before := inUse()
	sources := reuse.New(m, laid, slog.New(slog.DiscardHandler))
	sources.Version(other, laid.Files(), nowhere{})
	known := inUse()
	assert.Less(t, (known-before)/shard.MaxFiles, int64(40), "bytes for each file")
	var meanwhile int64
	to := &counted{middle: m.Size / 2, look: func() { meanwhile = inUse() }}
	there, err := sources.Fill(m.Shard(1), nil, to)
	require.NoError(t, err)
	assert.Equal(t, []disk.Range{{From: 0, To: m.Size}}, there)
	assert.Equal(t, m.Size, to.bytes)
	assert.Less(t, (meanwhile-known)/shard.MaxFiles, int64(40), "bytes for each file while they are copied")
}
