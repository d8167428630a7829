package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/compare"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// Verify compares the file or directory name with the version e, and writes nothing; the paths of the differences
// begin with name. A file
// has to have all bytes of the version, which are a tar if that is a tree; of a directory all
// files, and no others, have to be there, with their bytes and whether they may be executed. The
// error says why it cannot be compared now: those of [fetch.Pool.Manifest] and of the file
// system.
func (c *Client) Verify(ctx context.Context, e distfile.Entry, name string) (
	m shard.Manifest, differences []compare.Difference, err error,
) {
	if m, err = c.pool.Manifest(ctx, e); errors.Is(err, fs.ErrNotExist) {
		m, err = shard.Manifest{Digest: e.Digest, Size: -1}, nil // of a plain server
	}
	if err != nil {
		return m, nil, err
	}
	full, err := filepath.EvalSymlinks(name)
	if err != nil {
		return m, nil, err
	}
	info, err := os.Stat(full)
	switch {
	case err != nil:
		return m, nil, err
	case !info.IsDir():
		differences, err = compare.Stream(ctx, full, m, c.logger)
	case m.Files == nil:
		differences = []compare.Difference{{What: "it is a directory, and the version is a file"}}
	default:
		var t *tree.Tree
		if t, err = c.pool.Files(ctx, fetch.Manifest{Entry: e, Stated: m}, nil); err == nil {
			differences, err = compare.Tree(ctx, full, t)
		}
	}
	for i := range differences {
		differences[i].Path = filepath.Join(name, differences[i].Path)
	}
	return m, differences, err
}
