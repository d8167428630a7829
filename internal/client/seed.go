package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// A Seed is a file or directory that may have bytes of a version, which are copied and not
// fetched. They are verified as if a server had sent them.
type Seed struct {
	Path string

	// Record is the [Download.Record] of the download that has put the seed there: so its
	// bytes are known without reading them. Empty has them read.
	Record string
}

// sources returns where bytes of the version that m describes, which is the tree t unless
// that is nil, are known to be: in the seeds of d. It returns the cause of ctx's end.
func (c *Client) sources(ctx context.Context, d Download, m shard.Manifest, t *tree.Tree) (*reuse.Sources, error) {
	if len(d.Seeds) == 0 {
		return nil, nil //nolint:nilnil // a nil one has nothing
	}
	defer d.Headway.Pause()() // reading seeds takes a while, and no server
	logger := c.logger.With("version", d.Entry.Version.String())
	sources := reuse.New(m, t, logger)
	room := shard.MaxFiles
	for _, seed := range d.Seeds {
		if seed.Record == "" {
			logger.Info("reading seed", "path", seed.Path)
			if err := sources.Path(ctx, seed.Path); err != nil {
				return nil, err
			}
			continue
		}
		if err := seed.recall(sources, &room); err != nil && !errors.Is(err, fs.ErrNotExist) {
			logger.Warn("seed not used", "path", seed.Path, "err", err)
		}
	}
	return sources, nil
}

// recall adds what the record of s says to the sources. A tree whose files have no room any more, in all
// seeds together, is left out for memory, unless it is the first: the newest.
func (s Seed) recall(sources *reuse.Sources, room *int) error {
	m, t, err := readRecord(s.Record, *room)
	switch {
	case err != nil:
		return err
	case t != nil:
		*room -= t.Len()
		sources.Version(m, t.Files(), reuse.Tree(s.Path, t))
	case m.Files == nil:
		sources.Version(m, nil, reuse.File(s.Path))
	}
	return nil
}

// readRecord reads the manifest and, of a tree, the list of files from a record: nil if there are more
// than most files.
func readRecord(dir string, most int) (m shard.Manifest, t *tree.Tree, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, nil, err
	}
	defer root.Close()
	f, err := disk.OpenRegular(root, shard.ManifestName)
	if err != nil {
		return m, nil, err
	}
	m, err = shard.ParseManifest(f)
	if err = errors.Join(err, f.Close()); err != nil || m.Files == nil || m.Files.Count > most {
		return m, nil, err
	}
	if f, err = disk.OpenRegular(root, shard.FilesName); err != nil {
		return m, nil, err
	}
	defer f.Close()
	t, err = tree.Parse(f, *m.Files)
	return m, t, err
}

// record keeps the manifest m in the directory of d's record, and returns a function that
// returns a writer for the list of files there. Without a record it returns nil.
func (d Download) record(m shard.Manifest) (list func() (shard.Writer, error), err error) {
	if d.Record == "" {
		return nil, nil //nolint:nilnil // a nil function keeps nothing
	}
	if err := os.Mkdir(d.Record, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := os.OpenRoot(d.Record)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	text, err := m.Encode()
	if errors.Is(err, shard.ErrManifest) {
		return nil, nil //nolint:nilnil // of servers without a manifest, which says nothing of shards
	}
	if err != nil {
		return nil, err
	}
	if err := disk.WriteFile(root, shard.ManifestName+".tmp", shard.ManifestName, text, 0o600); err != nil {
		return nil, fmt.Errorf("keep the manifest: %w", err)
	}
	return func() (shard.Writer, error) {
		root, err := os.OpenRoot(d.Record)
		if err != nil {
			return nil, err
		}
		f, err := disk.Create(root, shard.FilesName+".tmp", shard.FilesName, 0o600)
		if err != nil {
			return nil, errors.Join(err, root.Close())
		}
		return keptFile{f, root}, nil
	}, nil
}

// keptFile is a file in a directory that it closes.
type keptFile struct {
	*disk.File

	root *os.Root
}

// Close closes the file and its directory.
func (k keptFile) Close() error { return errors.Join(k.File.Close(), k.root.Close()) }
