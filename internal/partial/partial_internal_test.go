package partial

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

// failing cannot be read now.
type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestAPartialFileThatCannotBeReadNowIsNotOfAnotherVersion(t *testing.T) {
	m := shard.Manifest{Size: 10}
	footer := footerOf(m.Digest)
	_, err := isOf(failing{syscall.EIO}, 1<<30, m, footer)
	require.ErrorIs(t, err, syscall.EIO)
	same, err := isOf(bytes.NewReader(nil), 0, m, footer)
	require.NoError(t, err)
	assert.False(t, same, "one that ends before is another")
}
