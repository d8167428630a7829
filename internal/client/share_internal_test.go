package client

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// closing are bytes that note when they are closed.
type closing struct {
	*bytes.Reader

	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestPeersCanReadADeltaForAsLongAsItsVersion(t *testing.T) {
	board := relay.NewBoard()
	m := shard.Manifest{Size: 5, ShardSize: 5, Shards: []shard.Digest{{1}}}
	none := func(int) (relay.File, error) { return nil, io.EOF }
	s := &sharing{board: board}
	var deltas []*closing
	for v := range shard.Version(mostShared + 1) {
		version := board.Begin(distfile.Entry{Version: v + 1}, m, 1, none)
		board.List(version.Entry)
		s.all = append(s.all, shared{version: version, bytes: &closing{}})
		bytes := &closing{Reader: bytes.NewReader([]byte("delta"))}
		deltas = append(deltas, bytes)
		version.BringDelta(9, relay.NewBoard().Begin(distfile.Entry{}, m, 1, partsOf(bytes, m)))
		require.True(t, s.keep(version, bytes))
	}
	first, last := s.all[0].version, s.all[mostShared].version
	require.NoError(t, s.end(mostShared))
	assert.True(t, deltas[0].closed)
	delta, _, _ := first.Delta(9)
	assert.Nil(t, delta)
	assert.False(t, s.keep(first, deltas[0]), "it is on the board no more")
	assert.False(t, deltas[mostShared].closed)
	delta, _, _ = last.Delta(9)
	require.NotNil(t, delta)
	f, err := delta.Open(1)
	require.NoError(t, err)
	text, err := io.ReadAll(f)
	require.NoError(t, err)
	assert.Equal(t, "delta", string(text))

	require.NoError(t, s.failed(last))
	assert.True(t, deltas[mostShared].closed)
	require.NoError(t, s.end(0))
	assert.True(t, deltas[1].closed)
}
