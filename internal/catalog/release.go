package catalog

import (
	"crypto/sha256"
	"io/fs"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// A Release is the text of release.txt, which is shared and never changes.
type Release struct {
	// Text is as the publisher has signed it.
	Text []byte

	// Digest is the text's.
	Digest shard.Digest

	parse func() (release.Signed, error)
}

// List returns what the text says. It is not verified here. The error matches
// [release.ErrForm].
func (r Release) List() (release.Release, error) {
	signed, err := r.parse()
	return signed.Release, err
}

// releases is the text that was read last.
type releases struct {
	mu      sync.Mutex // guards what follows, and is held while a text is read
	last    Release
	seen    glance // of the file that last was read from
	settled bool   // the file had looked the same for long enough when last was read
}

// Release returns release.txt as it is now. It is read again when the file looks different, or
// had not looked the same for long enough when it was read. The error matches [fs.ErrNotExist] if there is none.
func (c *Catalog) Release() (Release, error) {
	if c.store == nil {
		return Release{}, fs.ErrNotExist
	}
	r := &c.releases
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := c.store.Release()
	if err != nil {
		return Release{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Release{}, err
	}
	fresh := r.seen.fresh(info)
	if !fresh && r.settled {
		return r.last, nil
	}
	text, err := store.ReadRelease(f)
	if err != nil {
		r.settled = false
		return Release{}, err
	}
	r.settled = !fresh
	if digest := shard.Digest(sha256.Sum256(text)); r.last.Text == nil || r.last.Digest != digest {
		parse := sync.OnceValues(func() (release.Signed, error) { return release.Parse(text) })
		r.last = Release{Text: text, Digest: digest, parse: parse}
	}
	return r.last, nil
}

// Listed returns what release.txt says, see [Release.List]. The error matches [fs.ErrNotExist] if
// there is none.
func (c *Catalog) Listed() (release.Release, error) {
	r, err := c.Release()
	if err != nil {
		return release.Release{}, err
	}
	return r.List()
}

// glance is the look of a file from outside.
type glance struct {
	info  fs.FileInfo // nil if it was missing
	since time.Time   // when it first looked like that
}

// fresh reports whether the file that looks like info, or is missing if that is nil, may have
// changed since the last call: it looks different, or has not looked the same for long enough.
func (g *glance) fresh(info fs.FileInfo) bool {
	same := info == nil && g.info == nil || info != nil && g.info != nil && isSame(info, g.info)
	if !same {
		g.info, g.since = info, time.Now()
	}
	return time.Since(g.since) < settleTime
}
