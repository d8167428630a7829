package store_test

import (
	"os"
	"path/filepath"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// disk is a data directory whose writer takes one step after the other, and may
// stop after any.
type disk string

// move moves the directory of v between the data directory itself, "drafts" and
// "retired".
func (d disk) move(t tb, v shard.Version, from, to string) {
	t.Helper()
	place := func(where string) string {
		if where == "" {
			return filepath.Join(string(d), v.String())
		}
		return filepath.Join(string(d), ".shardcast", where, v.String())
	}
	require.NoError(t, os.RemoveAll(place(to)))
	require.NoError(t, os.Rename(place(from), place(to)))
}

// offer lists versions.
func (d disk) offer(t tb, versions ...shard.Version) {
	t.Helper()
	write(t, string(d), distfile.FileName, distribution(versions...))
}
