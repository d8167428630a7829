package middle_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

// thirty broadcasts a directory of thirty files, of which number 7 has other content, and
// returns the stream of it.
func (s *site) thirty(t *testing.T, seventh []byte) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.Mkdir(dir, 0o755))
	for i := range 30 {
		data := content(byte(i), 3300)
		if i == 7 {
			data = seventh
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d", i)), data, 0o644))
	}
	v, err := s.origin.Broadcast(t.Context(), dir)
	require.NoError(t, err)
	var stream []byte
	shards, err := s.store.Shards(v)
	require.NoError(t, err)
	for number := range len(shards) {
		f, done, err := s.store.Shard(v, number+1)
		require.NoError(t, err)
		text, err := os.ReadFile(filepath.Join(s.store.Dir(), v.String(), filepath.Base(f.Name())))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		done()
		stream = append(stream, text...)
	}
	return stream
}

func TestAMiddleFetchesNothingThatAHeldVersionHas(t *testing.T) {
	for name, tc := range map[string]struct {
		seventh []byte
		most    int // shards
	}{
		"nothing changes":  {content(7, 3300), 0},
		"one file changes": {content(99, 3300), 5},
		"one file grows":   {append(content(7, 3300), content(99, 1500)...), 6},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newSite(t), t.TempDir()
			s.thirty(t, content(7, 3300))
			n := run(t, dir, s.URL)
			n.log.await(t, "msg=fetched", "version=v1")
			stream := s.thirty(t, tc.seventh)
			n.log.await(t, "msg=fetched", "version=v2")
			n.assertServes(t, "v2", stream)
			assert.LessOrEqual(t, len(s.asked("/v2/shard_")), tc.most)
			one, err := os.Stat(filepath.Join(dir, "v1", shard.FileName(1)))
			require.NoError(t, err)
			two, err := os.Stat(filepath.Join(dir, "v2", shard.FileName(1)))
			require.NoError(t, err)
			assert.True(t, os.SameFile(one, two), "equal shards are one file")
		})
	}
}

func TestADamagedShardIsMendedInEachVersionThatHasIt(t *testing.T) {
	data := content(1, 10*shardSize)
	s, dir := newSite(t, data), t.TempDir()
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")

	// While v1 is damaged, v2 takes its shards: nothing of v1 is written to.
	first := filepath.Join(dir, "v1", shard.FileName(2))
	bad := bytes.Repeat([]byte("x"), shardSize)
	require.NoError(t, os.WriteFile(first, bad, 0o600))
	data2 := append(bytes.Clone(data), 'y')
	s.broadcast(t, data2)
	n.log.await(t, "msg=fetched", "version=v2")
	n.assertServes(t, "v2", data2)
	got, err := os.ReadFile(first)
	require.NoError(t, err)
	assert.Equal(t, bad, got, "a shard of another version is never written to")

	n.stop()
	n = run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	n.assertServes(t, "v1", data)

	// Both have one file now.
	n.stop()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "v1", shard.FileName(5)), bad, 0o600))
	n = run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	n.log.await(t, "msg=fetched", "version=v2")
	n.assertServes(t, "v1", data)
	n.assertServes(t, "v2", data2)
}
