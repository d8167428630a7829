package tree_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// BenchmarkManySmallFiles writes and reads back a tree of 50,000 files of 4 kB, as a download does.
func BenchmarkManySmallFiles(b *testing.B) {
	var files []tree.File
	for i := range 50_000 {
		files = append(files, tree.File{Path: fmt.Sprintf("%03d/%05d", i/100, i), Size: 4096, Digest: shard.Digest{1}})
	}
	laid, err := tree.Lay(files)
	require.NoError(b, err)
	text := laid.Encode()
	stream := make([]byte, laid.Size())
	for part := range laid.Pieces(0, laid.Size()) {
		if part.File < 0 {
			copy(stream[part.Offset:], laid.Made(part))
		}
	}
	buf := make([]byte, 256<<10)
	b.SetBytes(laid.Size())
	for b.Loop() {
		root, err := os.OpenRoot(b.TempDir())
		require.NoError(b, err)
		parsed, err := tree.Parse(bytes.NewReader(text), described(laid.Len(), text))
		require.NoError(b, err)
		dir, err := tree.NewDir(root, parsed)
		require.NoError(b, err)
		for offset := int64(0); offset < laid.Size(); offset += int64(len(buf)) {
			p := buf[:min(int64(len(buf)), laid.Size()-offset)]
			_, err := dir.WriteAt(stream[offset:offset+int64(len(p))], offset)
			require.NoError(b, err)
			_, err = dir.ReadAt(p, offset)
			require.NoError(b, err)
		}
		require.NoError(b, dir.Finish())
		require.NoError(b, root.Close())
	}
}
