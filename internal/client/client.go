// Package client lists what upstreams offer, downloads versions into files, and keeps a
// directory of the newest ones. It knows nothing of flags, nor of how bytes travel;
// package fetch does.
//
// A download's bytes are written once, each at its place in a temporary file
// beside the output file, which takes the final name only when the digest of the
// whole has agreed and all of it is on the disk. Until then, whatever stood under
// that name stays as it was. The temporary file of a download that failed or was
// killed stays, and the next one of the same file to the same place goes on with
// it: what is there is told by the holes that are not, and believed when its
// digests agree. It is replaced by a download of another file to that place, and
// removed after a day in which nobody went on, by the next download into that
// directory.
//
// In a swarm others read what downloads bring, see [Client.Share], while it comes and
// afterwards: from the file itself, whatever it is called meanwhile.
//
// A directory that follows upstreams, see [Client.Follow], has a record of what is in it
// and what is on its way there, in the hidden directory .shardcast-follow. It is written
// before anything is made, so that whatever is not in it is somebody else's, and never
// replaced or removed. What it says is held against the disk at the start: a file is known
// again by its size and time, or else by its digest.
package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// manifestsAtOnce bounds the memory of a listing.
const manifestsAtOnce = 4

// A Listing is one version on offer. Manifest is nil where no server has one to
// give; its shards' digests are left out, for there may be many versions, and
// their number is in Count.
type Listing struct {
	distfile.Entry

	Manifest *shard.Manifest
}

// A Client downloads from the upstreams of a pool.
type Client struct {
	pool    *fetch.Pool
	logger  *slog.Logger
	sharing *sharing // or nil
}

// New returns a Client that fetches by way of pool.
func New(pool *fetch.Pool, logger *slog.Logger) *Client {
	return &Client{pool: pool, logger: logger}
}

// List returns the versions on offer, ascending. Errors are those of
// [fetch.Pool.Refresh].
func (c *Client) List(ctx context.Context) ([]Listing, error) {
	if err := c.pool.Refresh(ctx, fetch.Soon); err != nil {
		return nil, err
	}
	offers := c.pool.Offers()
	listings := make([]Listing, len(offers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(manifestsAtOnce)
	for i, e := range offers {
		group.Go(func() error {
			listings[i].Entry = e
			m, err := c.pool.Manifest(ctx, e)
			switch {
			case err == nil:
				if m.Digest != e.Digest && m.BLAKE3 != e.Digest {
					listings[i].Digest = m.Digest // which is fetched as the version, for it has a manifest
				}
				listings[i].Count = len(m.Shards)
				m.Shards = nil
				listings[i].Manifest = &m
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case !errors.Is(err, fs.ErrNotExist):
				c.logger.Warn("manifest left out", "version", e.Version.String(), "err", err)
			}
			return nil
		})
	}
	return listings, group.Wait()
}

// Find returns the offer of version, or of the newest one for version 0. Before
// it says that there is none it waits for all servers. Errors match
// [fetch.ErrNoVersion], or are those of [fetch.Pool.Reach].
func (c *Client) Find(ctx context.Context, version shard.Version) (distfile.Entry, error) {
	return c.find(ctx, version, c.pool.Reach)
}

// find is Find, which first asks by ask.
func (c *Client) find(ctx context.Context, version shard.Version, ask func(context.Context) error) (distfile.Entry, error) {
	if err := ask(ctx); err != nil {
		return distfile.Entry{}, err
	}
	if e, ok := pick(c.pool.Offers(), version); ok {
		return e, nil
	}
	if err := c.pool.Refresh(ctx, fetch.All); err != nil {
		return distfile.Entry{}, err
	}
	offers := c.pool.Offers()
	if e, ok := pick(offers, version); ok {
		return e, nil
	}
	if len(offers) == 0 {
		return distfile.Entry{}, fmt.Errorf("%w: the servers offer nothing yet", fetch.ErrNoVersion)
	}
	return distfile.Entry{}, fmt.Errorf("%w: %s is not among the %d on offer, from %s to %s",
		fetch.ErrNoVersion, version, len(offers), offers[0].Version, offers[len(offers)-1].Version)
}

// Await is [Client.Find], but waits up to a time for what it would say that there is
// not yet: the version, any version, or a server that answers. It returns when one
// of the servers offers it.
func (c *Client) Await(ctx context.Context, version shard.Version, wait time.Duration) (distfile.Entry, error) {
	if wait <= 0 {
		return c.Find(ctx, version)
	}
	if e, ok := c.follow(ctx, version, wait); ok || ctx.Err() != nil {
		return e, context.Cause(ctx)
	}
	// Once more, and not as often as the options allow: the time is over.
	return c.find(ctx, version, func(ctx context.Context) error { return c.pool.Refresh(ctx, fetch.Soon) })
}

// follow follows the servers until one of them offers version, or for so long.
func (c *Client) follow(ctx context.Context, version shard.Version, wait time.Duration) (e distfile.Entry, ok bool) {
	ctx, found := context.WithTimeout(ctx, wait)
	defer found()
	waiting := false
	c.pool.Follow(ctx, pollEvery, func() {
		// What is known may be from long ago, or from the quickest server alone.
		if _, known := pick(c.pool.Offers(), version); known && c.pool.Refresh(ctx, fetch.Soon) == nil {
			e, ok = pick(c.pool.Offers(), version)
		}
		switch {
		case ok:
			found()
		case !waiting:
			waiting = true
			c.logger.Info("waiting for the version", "version", name(version), "dur", wait)
		}
	})
	return e, ok
}

// pollEvery is the time between two looks while a version is waited for, at servers
// that do not say themselves when there is one.
const pollEvery = 2 * time.Second

// name is what version is called where 0 is the newest one.
func name(version shard.Version) string {
	if version == 0 {
		return "latest"
	}
	return version.String()
}

// pick returns version among offers, or the last one for 0.
func pick(offers []distfile.Entry, version shard.Version) (distfile.Entry, bool) {
	if version == 0 && len(offers) > 0 {
		return offers[len(offers)-1], true
	}
	i := slices.IndexFunc(offers, func(e distfile.Entry) bool { return e.Version == version })
	if i < 0 {
		return distfile.Entry{}, false
	}
	return offers[i], true
}

// A Download is what to fetch, and where to.
type Download struct {
	// Entry is the version, see [Client.Find].
	Entry distfile.Entry

	// Path is the file to bring it to. Directories that are missing on the way there
	// are made.
	Path string

	// place says, unless it is nil, when the manifest is known, which file of which
	// directory to bring it to instead; the directory is closed by the download.
	place func(shard.Manifest) (dir *os.Root, base string, err error)

	// Afresh has what an earlier download left not used.
	Afresh bool

	// Progress is called as in [fetch.Task].
	Progress func(fetch.Progress)
}

// Download brings a version to a file, and returns its manifest and how it went.
// On any error, what stood at the path is as it was before, and what has come is
// kept for the next download of the same file to it, unless no server has the
// version any more. Errors are those of [fetch.Pool.Fetch] and
// of the file system.
func (c *Client) Download(ctx context.Context, d Download) (shard.Manifest, fetch.Progress, error) {
	start := time.Now()
	place := d.place
	if place == nil {
		place = func(shard.Manifest) (*os.Root, string, error) {
			dir, err := openDir(d.Path)
			return dir, filepath.Base(d.Path), err
		}
	}
	var out *output
	relays := c.sharing != nil
	m, went, err := c.pool.Fetch(ctx, fetch.Task{Entry: d.Entry, Relay: relays, Progress: d.Progress, Open: func(m shard.Manifest, tier int) (fetch.Sink, error) {
		err := errors.Join(c.sharing.failed(out.sharedAs()), out.close(true))
		afresh := d.Afresh && out == nil
		out = nil
		if err == nil {
			out, err = c.open(ctx, m, afresh, place)
		}
		if err == nil {
			out.shared, err = c.sharing.begin(out, d.Entry.Version, m, tier)
		}
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", d.Path, err)
		}
		if d.place != nil {
			d.Path = out.path()
		}
		return out, nil
	}})
	if err == nil {
		err = out.commit()
	}
	if err != nil {
		err = errors.Join(err, c.sharing.failed(out.sharedAs()))
	}
	keep := err != nil && !errors.Is(err, fetch.ErrNoVersion) && out != nil && (out.resumed || went.Done > 0)
	if err := errors.Join(err, out.close(keep)); err != nil {
		if keep {
			c.logger.Info("unfinished download kept", "version", d.Entry.Version.String(), "file", d.Path, "bytes", went.Done)
		}
		return shard.Manifest{}, went, fmt.Errorf("download %s to %s: %w", d.Entry.Version, d.Path, err)
	}
	c.logger.Info("downloaded", "version", d.Entry.Version.String(), "file", d.Path, "bytes", m.Size,
		"resumed", went.Resumed, "wasted", went.Wasted, "peers", went.Peers, "dur", time.Since(start))
	return m, went, nil
}

// open opens the output that m is to be brought to.
func (c *Client) open(ctx context.Context, m shard.Manifest, afresh bool, place func(shard.Manifest) (*os.Root, string, error)) (*output, error) {
	dir, base, err := place(m)
	if err != nil {
		return nil, err
	}
	c.sweep(dir.Name(), base)
	return create(ctx, dir, base, m, afresh)
}

// abandoned is how long nobody goes on with an unfinished file before it is
// removed.
const abandoned = 24 * time.Hour

// sweep removes what downloads have left in dir and nobody goes on with, but for
// what is to become the file base. What it cannot remove it leaves.
func (c *Client) sweep(dir, base string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		info, err := entry.Info()
		if err != nil || name == tempName(base) || name[0] != '.' || !strings.HasSuffix(name, tempSuffix) ||
			!info.Mode().IsRegular() || time.Since(info.ModTime()) < abandoned {
			continue
		}
		if name = filepath.Join(dir, name); removeUnused(name) == nil {
			c.logger.Info("abandoned download removed", "file", name)
		}
	}
}

// removeUnused removes the unfinished file name, unless a download is using it.
func removeUnused(name string) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // nobody is waited for
	lock, err := lockFile(ended, name)
	if err != nil {
		return err // it is in use after all
	}
	return errors.Join(os.Remove(name), lock.Close())
}

// openDir opens the directory of path, which it makes if it is missing.
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
