package tree_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// inUse returns the bytes that are allocated and in use.
func inUse() int64 {
	var now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&now)
	return int64(now.HeapAlloc)
}

// A client has 64 MiB for everything, and may hold the lists of two versions.
func TestAListOfManyFilesTakesLittleMemory(t *testing.T) {
	files := make([]tree.File, shard.MaxFiles)
	for i := range files {
		files[i] = tree.File{Path: fmt.Sprintf("%08d", i), Size: 1000, Digest: shard.Digest{1}}
	}
	laid, err := tree.Lay(files)
	require.NoError(t, err)
	text := laid.Encode()
	before := inUse()
	parsed, err := tree.Parse(bytes.NewReader(text), described(shard.MaxFiles, text))
	require.NoError(t, err)
	assert.Less(t, (inUse()-before)/shard.MaxFiles, int64(60), "bytes for each file")
	runtime.KeepAlive(text)
	assert.Equal(t, files[7].Path, parsed.File(7).Path)
}
