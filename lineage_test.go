package shardcast_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestARunHasOneContentForEachNumber(t *testing.T) {
	dir := t.TempDir()
	full, other := filepath.Join(dir, "full.bin"), filepath.Join(dir, "other.bin")
	require.NoError(t, os.WriteFile(full, []byte("full"), 0o600))
	require.NoError(t, os.WriteFile(other, []byte("other"), 0o600))
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: filepath.Join(dir, "data")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = o.Close() })
	require.NoError(t, o.NewRun(t.Context(), "a"))
	first := shardcast.BroadcastOptions{Number: 1}
	got, err := o.BroadcastAs(t.Context(), full, first)
	require.NoError(t, err)
	assert.False(t, got.Again)
	assert.Equal(t, map[string]string{"run": "a", "number": "1"}, got.Version.Labels)
	again, err := o.BroadcastAs(t.Context(), full, first)
	require.NoError(t, err)
	assert.True(t, again.Again)
	assert.Equal(t, got.Version, again.Version)
	for name, refused := range map[string]shardcast.BroadcastOptions{
		"another content":      first,
		"what it needs":        {Number: 3, After: 2},
		"another run":          {Number: 1, Run: "b"},
		"a number by its name": {Labels: map[string]string{"number": "one"}},
	} {
		_, err := o.BroadcastAs(t.Context(), other, refused)
		require.ErrorIs(t, err, shardcast.ErrLineage, name)
	}
	for name, refused := range map[string]shardcast.BroadcastOptions{
		"both ways":       {Number: 1, Labels: map[string]string{"number": "2"}},
		"negative":        {Number: -1},
		"after alone":     {After: 1},
		"another lineage": {Lineage: "other"},
		"no name":         {Run: "a\n", Number: 2},
	} {
		_, err := o.BroadcastAs(t.Context(), other, refused)
		require.ErrorIs(t, err, shardcast.ErrOptions, name)
	}
	require.ErrorIs(t, o.NewRun(t.Context(), ""), shardcast.ErrOptions)
	require.NoError(t, o.NewRun(t.Context(), "b"))
	settings, err := shardcast.ReadSettings(filepath.Join(dir, "data"))
	require.NoError(t, err)
	assert.Equal(t, "b", settings.Run)
	next, err := o.BroadcastAs(t.Context(), other, first)
	require.NoError(t, err)
	assert.Equal(t, "v2", next.Version.Name)
}
