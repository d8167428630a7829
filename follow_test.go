package shardcast_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestClientFollowYieldsNewVersions(t *testing.T) {
	o, address := newOrigin(t, t.TempDir())
	_, err := o.Broadcast(t.Context(), file(t, "the first"))
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "out")
	updates := 0
	c := newClient(
		t,
		shardcast.ClientOptions{
			Servers:   []string{address},
			OutputDir: dir,
			Progress:  func(shardcast.Progress) { updates++ },
		},
	)
	for got, err := range c.Follow(t.Context(), shardcast.FollowOptions{}) {
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(dir, "v1", "weights.bin"), got.Path)
		assert.Equal(t, "the first", read(t, got.Path))
		assert.Equal(t, "v1", got.Version.Name)
		assert.Equal(t, 3, got.Version.Shards)
		assert.Equal(t, int64(9), got.Progress.Received)
		break
	}
	assert.Positive(t, updates)
}

func TestClientFollowEndsWithTheContext(t *testing.T) {
	_, address := newOrigin(t, t.TempDir())
	c := newClient(t, shardcast.ClientOptions{Servers: []string{address}, OutputDir: t.TempDir()})
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	var last error
	for got, err := range c.Follow(ctx, shardcast.FollowOptions{}) {
		assert.Empty(t, got.Version.Name)
		last = err
	}
	assert.ErrorIs(t, last, enough)
}

func TestClientFollowYieldsErrorsOfVersionsThatItLeavesOut(t *testing.T) {
	lies := newPlain(
		t,
		map[string]string{"/distribution.txt": "v1: " + strings.Repeat("a", 64), "/v1/manifest.json": "{}"},
	)
	c := newClient(t, shardcast.ClientOptions{Servers: []string{lies.URL}, OutputDir: t.TempDir()})
	for got, err := range c.Follow(t.Context(), shardcast.FollowOptions{}) {
		require.ErrorIs(t, err, shardcast.ErrIntegrity)
		assert.Equal(t, "v1", got.Version.Name)
		assert.Equal(t, int64(-1), got.Version.Size)
		break
	}
}

func TestClientFollowRefusesBadOptions(t *testing.T) {
	c := newClient(t, shardcast.ClientOptions{Servers: []string{"host.invalid"}, OutputDir: t.TempDir()})
	for name, opts := range map[string]shardcast.FollowOptions{
		"template": {Template: "../{n}"}, "from": {From: "7"}, "keep": {Keep: -1}, "marker": {Marker: "a/b"},
		"link": {Link: ".."},
	} {
		count := 0
		for _, err := range c.Follow(t.Context(), opts) {
			count++
			require.ErrorIs(t, err, shardcast.ErrOptions, name)
		}
		assert.Equal(t, 1, count, name)
	}
}
