package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Download describes one download. Entry is required, and Path or Place.
type Download struct {
	// Entry is the version, see [Client.Find].
	Entry distfile.Entry

	// Path is the output file. Missing directories on the way there are made.
	Path string

	// Place chooses the output file in Path's stead, once the manifest is known: the file
	// base in dir, which the download closes. It is called again when a second manifest
	// replaces the first one. Nil means Path.
	Place func(shard.Manifest) (dir *os.Root, base string, err error)

	// Afresh discards the partial file of an earlier download.
	Afresh bool

	// Progress is called as in [fetch.Task].
	Progress func(fetch.Progress)
}

// Download downloads a version into a file, and returns its manifest and how the fetch went.
// On any error the previous file at the path stays as it was, and the partial file is kept
// for the next download of the same version to it, unless no server has the version any more.
// Errors are those of [fetch.Pool.Fetch] and of the file system.
func (c *Client) Download(ctx context.Context, d Download) (shard.Manifest, fetch.Progress, error) {
	start := time.Now()
	var out *output
	m, went, err := c.pool.Fetch(ctx, fetch.Task{
		Entry: d.Entry, Progress: d.Progress,
		Audience: func() fetch.Audience {
			if c.sharing == nil {
				return nil
			}
			return out.shared
		},
		Open: func(m shard.Manifest, tier int) (fetch.Sink, error) {
			// There is an output already when the bytes did not fit an earlier manifest.
			err := c.discard(out, true)
			d.Afresh = d.Afresh && out == nil
			out = nil
			if err == nil {
				out, err = c.open(ctx, d, m, tier)
			}
			if err != nil {
				return nil, fmt.Errorf("write %s: %w", d.Path, err)
			}
			d.Path = out.path()
			return out, nil
		},
	})
	if err == nil {
		err = out.commit()
	}
	keep := err != nil && out != nil && !errors.Is(err, fetch.ErrNoVersion) && (out.resumed || went.Done > 0)
	if err == nil {
		err = out.close(false)
	} else {
		err = errors.Join(err, c.discard(out, keep))
	}
	if keep {
		c.logger.Info("partial download kept", "version", d.Entry.Version.String(), "file", d.Path, "bytes", went.Done)
	}
	if err != nil {
		return shard.Manifest{}, went, fmt.Errorf("download %s to %s: %w", d.Entry.Version, d.Path, err)
	}
	c.logger.Info("downloaded", "version", d.Entry.Version.String(), "file", d.Path, "bytes", m.Size,
		"resumed", went.Resumed, "wasted", went.Wasted, "peers", went.Peers, "dur", time.Since(start))
	return m, went, nil
}

// open opens the output file for m, and shares it if the client shares.
func (c *Client) open(ctx context.Context, d Download, m shard.Manifest, tier int) (*output, error) {
	place := d.Place
	if place == nil {
		place = func(shard.Manifest) (*os.Root, string, error) {
			dir, err := openDir(d.Path)
			return dir, filepath.Base(d.Path), err
		}
	}
	dir, base, err := place(m)
	if err != nil {
		return nil, err
	}
	c.sweep(dir.Name(), base)
	out, err := create(ctx, dir, base, m, d.Afresh)
	if err != nil || c.sharing == nil {
		return out, err
	}
	if out.shared, err = c.sharing.begin(out, d.Entry.Version, m, tier); err != nil {
		return nil, errors.Join(err, c.discard(out, out.resumed))
	}
	return out, nil
}

// discard ends the use of out without a file of its final name, and keeps the partial file
// if keep is set. A nil out is allowed.
func (c *Client) discard(out *output, keep bool) error {
	if out == nil {
		return nil
	}
	var err error
	if out.shared != nil {
		err = c.sharing.failed(out.shared)
	}
	return errors.Join(err, out.close(keep))
}

// openDir opens the directory of path, and makes it if it is missing.
func openDir(path string) (*os.Root, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir(), path != "" && os.IsPathSeparator(path[len(path)-1]):
		return nil, errors.New("it is a directory; name a file")
	case err == nil && !info.Mode().IsRegular():
		// To replace a device by a file would break the machine.
		return nil, errors.New("it is not a regular file")
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}
