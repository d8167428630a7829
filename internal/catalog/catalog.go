// Package catalog is one view of what a server has: the versions that a data directory
// holds, and those that are arriving there. Here alone is decided whether a version or a
// shard is held, arriving, or neither. It refuses to know HTTP, and how the bytes come.
//
// What a caller may lean on: an arriving version takes the place of a held one of the same
// number, which is about to be replaced; and a version that moves from the board to the
// directory, or back, is in every answer that is made meanwhile.
package catalog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// ErrLater means that a version is on offer, and the wanted part of it not here yet.
var ErrLater = errors.New("the shard has not arrived yet")

// ErrWithdrawn means that a version was declared bad. It matches [fs.ErrNotExist].
var ErrWithdrawn = fmt.Errorf("the version was withdrawn: %w", fs.ErrNotExist)

// A Catalog is the view of one data directory. Its methods may be called from any
// goroutine.
type Catalog struct {
	store     *store.Store // nil if nothing is held
	board     *relay.Board
	manifests manifests
	releases  releases

	describing sync.Mutex // guards described, and is held while that is made
	described  map[shard.Version]description
}

// New returns the view of a directory and of what arrives there. Without a directory all
// that is here is on the board; without a board nothing arrives.
func New(st *store.Store, board *relay.Board) *Catalog {
	if board == nil {
		board = relay.NewBoard()
	}
	return &Catalog{store: st, board: board, manifests: manifests{read: make(map[described]manifest)}}
}

// HasDirectory reports whether there is a data directory. Without one only [Catalog.Find]
// and [Catalog.Shard] may be called.
func (c *Catalog) HasDirectory() bool { return c.store != nil }

// Dir returns the path of the data directory.
func (c *Catalog) Dir() string { return c.store.Dir() }

// Sweep removes retired versions without readers for as long as idle, see [store.Store.Sweep].
func (c *Catalog) Sweep(idle time.Duration) error { return c.store.Sweep(idle) }

// A Version is one that is here, held or arriving.
type Version struct {
	// Number is the version's.
	Number shard.Version

	// Manifest has the digests of the file and of all shards.
	Manifest shard.Manifest

	arriving *relay.Version // nil if the version is held
	file     *os.File       // the manifest of one that is held
	tag      shard.Digest   // likewise
}

// Find returns a version as it is here now, which the caller closes. The error matches
// [fs.ErrNotExist] if the version is neither held nor arriving, [ErrWithdrawn] if that is why,
// and [ErrLater] if it is on offer without a manifest so far.
func (c *Catalog) Find(v shard.Version) (*Version, error) {
	// Before its files go, since receivers ask as soon as it is off the list.
	if c.store != nil && c.store.IsWithdrawn(v) {
		return nil, ErrWithdrawn
	}
	arriving, listed := c.board.Find(v)
	switch {
	case !listed:
		return c.held(v)
	case arriving == nil || !arriving.HasDigests():
		return nil, fmt.Errorf("%w, nor the manifest", ErrLater)
	default:
		return &Version{Manifest: arriving.Manifest, Number: v, arriving: arriving}, nil
	}
}

// Latest returns the newest version on offer as [Catalog.Find] does.
func (c *Catalog) Latest() (*Version, error) {
	offers, err := c.Offers()
	for _, o := range slices.Backward(offers) {
		if !o.Foreign {
			return c.Find(o.Entry.Version)
		}
	}
	return nil, cmp.Or(err, fs.ErrNotExist)
}

// held returns a version that is in the directory.
func (c *Catalog) held(v shard.Version) (*Version, error) {
	if c.store == nil {
		return nil, fs.ErrNotExist
	}
	f, err := c.store.Manifest(v)
	if err != nil {
		return nil, err
	}
	m, err := c.manifests.of(described{version: v}, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Version{Manifest: m.content, Number: v, file: f, tag: m.tag}, nil
}

// Arriving returns the number of servers on the way here of a version that is arriving,
// and whether it is.
func (v *Version) Arriving() (tier int, arriving bool) {
	if v.arriving == nil {
		return 0, false
	}
	return v.arriving.Tier, true
}

// Text returns the manifest as it is written, and the digest of that text. That of a held
// version is read from its file, so that slow readers hold no memory.
func (v *Version) Text() (text io.ReadSeeker, tag shard.Digest, err error) {
	if v.file != nil {
		_, err := v.file.Seek(0, io.SeekStart) // it may have been parsed
		return v.file, v.tag, err
	}
	written, err := v.arriving.Text()
	return bytes.NewReader(written), sha256.Sum256(written), err
}

// Files opens the list of files of a version that is a tree, as it is written. The error
// matches [fs.ErrNotExist] if it is none.
func (c *Catalog) Files(v *Version) (*os.File, error) {
	if c.store == nil || v.Manifest.Files == nil {
		return nil, fs.ErrNotExist
	}
	return c.store.Files(v.Number)
}

// An Extent is how much there is of a shard.
type Extent = relay.Extent

// Extents yields how much there is of each shard, from the first to the last.
func (v *Version) Extents() iter.Seq[Extent] { return extents(v.arriving, v.Manifest) }

// extents yields those of an arriving stream, or if that is nil, of a held one.
func extents(arriving *relay.Version, m shard.Manifest) iter.Seq[Extent] {
	if arriving != nil {
		return arriving.Extents()
	}
	return slices.Values(slices.Repeat([]Extent{{Verified: true}}, len(m.Shards)))
}

// Close gives back what [Catalog.Find] has opened.
func (v *Version) Close() error {
	if v.file == nil {
		return nil
	}
	return v.file.Close()
}

// A Shard is one that is here, held or arriving.
type Shard struct {
	// Digest is the shard's, or zero where no manifest states it.
	Digest shard.Digest

	// File is the whole shard, an [os.File] where it has a file of its own. Nil means that
	// the shard is arriving, and what follows describes it.
	File io.ReadSeeker

	// Size is the shard's, in bytes.
	Size int64

	// Tier is the number of servers on the shard's way here.
	Tier int

	// Direct means that the sender holds the whole shard.
	Direct bool

	reader *relay.Reader
	close  func() error
}

// Shard returns a shard as it is here now, which the caller closes. An empty version has one
// empty shard for programs that know no manifest. The error matches [fs.ErrNotExist] if the
// shard is neither held nor arriving, and [ErrLater] if its version is on offer and no fetch
// of it under way.
func (c *Catalog) Shard(v shard.Version, number int) (*Shard, error) {
	s, err := c.shard(v, number)
	if number == 1 && errors.Is(err, fs.ErrNotExist) && c.isEmpty(v) {
		nothing := func() error { return nil }
		return &Shard{Digest: shard.EmptyDigest(), File: bytes.NewReader(nil), close: nothing}, nil
	}
	return s, err
}

// isEmpty reports whether v is here, and has no bytes.
func (c *Catalog) isEmpty(v shard.Version) bool {
	if here, err := c.Find(v); err == nil {
		defer here.Close()
		return here.Manifest.Size == 0
	}
	if c.store == nil || !c.store.Holds(v) {
		return false
	}
	entries, err := c.store.Distribution()
	return err == nil && slices.ContainsFunc(entries, func(e distfile.Entry) bool {
		return e.Version == v && shard.IsEmpty(e.Digest)
	})
}

// shard is [Catalog.Shard] for shards that a manifest has.
func (c *Catalog) shard(v shard.Version, number int) (*Shard, error) {
	arriving, listed := c.board.Find(v)
	if listed {
		s, err := arrivingShard(arriving, number)
		if !errors.Is(err, relay.ErrBroken) {
			return s, err
		}
		// The fetch has ended since: the version is held now, or waits for another fetch.
		if c.board.Lists(v) {
			return nil, ErrLater
		}
	}
	return c.heldShard(v, number)
}

// arrivingShard returns a shard of an arriving version, which is nil while no fetch of it
// is under way. The error matches [relay.ErrBroken] if the fetch has ended.
func arrivingShard(v *relay.Version, number int) (*Shard, error) {
	switch {
	case v == nil:
		return nil, ErrLater
	case number > len(v.Manifest.Shards):
		return nil, fs.ErrNotExist
	}
	from := v.Shard(number)
	s := &Shard{Digest: v.Manifest.Shards[number-1], Size: from.Size(), Tier: v.Tier, Direct: from.Direct()}
	if !from.Verified() {
		s.reader = from.Reader()
		s.close = s.reader.Close
		return s, nil
	}
	f, err := v.Open(number)
	if err != nil {
		return nil, err
	}
	s.File, s.close = f, f.Close
	return s, nil
}

// heldShard returns a shard that is in the directory.
func (c *Catalog) heldShard(v shard.Version, number int) (*Shard, error) {
	if c.store == nil {
		return nil, fs.ErrNotExist
	}
	before, err := c.digest(v, number)
	if err != nil {
		return nil, err
	}
	f, done, err := c.store.Shard(v, number)
	if err != nil {
		return nil, err
	}
	s := &Shard{File: f, close: func() error {
		defer done()
		return f.Close()
	}}
	if s.Digest, err = c.digest(v, number); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.Digest != before {
		s.Digest = shard.Digest{} // the version was replaced just now
	}
	return s, nil
}

// digest returns the digest of a held shard, or zero without a manifest, as in a directory
// of another program, and with a damaged one.
func (c *Catalog) digest(v shard.Version, number int) (shard.Digest, error) {
	held, err := c.held(v)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, shard.ErrManifest) {
		return shard.Digest{}, nil
	}
	if err != nil {
		return shard.Digest{}, err
	}
	defer held.Close()
	if number > len(held.Manifest.Shards) {
		return shard.Digest{}, nil
	}
	return held.Manifest.Shards[number-1], nil
}

// Ready returns the number of bytes of an arriving shard that can be read from offset on
// at once.
func (s *Shard) Ready(offset int64) int64 { return s.reader.Ready(offset) }

// Await waits for bytes of an arriving shard, see [relay.Reader.Await].
func (s *Shard) Await(ctx context.Context, offset int64, patience time.Duration) (int64, error) {
	return s.reader.Await(ctx, offset, patience)
}

// ReadAt reads bytes of an arriving shard that [Shard.Await] has returned as readable.
func (s *Shard) ReadAt(p []byte, offset int64) (int, error) { return s.reader.ReadAt(p, offset) }

// Close gives back what [Catalog.Shard] has opened.
func (s *Shard) Close() error { return s.close() }

// manifests are those of held versions and deltas that were read last.
type manifests struct {
	mu   sync.Mutex // guards read, and is held while a manifest is read
	read map[described]manifest
}

// described is a version that a manifest describes, or with a base the delta of it.
type described struct{ version, base shard.Version }

// manifest is one that was read.
type manifest struct {
	content shard.Manifest
	file    os.FileInfo
	tag     shard.Digest // of the text
}

// maxManifests bounds the memory of manifests: most have a few thousand digests of 32
// bytes, the largest possible ones 2 MiB of them.
const maxManifests = 16

// of returns the manifest in f, that of what, from memory if the file is the same. That of a delta is
// read as if it were a version's.
func (ms *manifests) of(what described, f *os.File) (manifest, error) {
	info, err := f.Stat()
	if err != nil {
		return manifest{}, err
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m, ok := ms.read[what]; ok && isSame(m.file, info) {
		return m, nil
	}
	text := sha256.New()
	content, err := shard.ParseManifest(io.TeeReader(f, text))
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w", what.version, err)
	}
	for other := range ms.read {
		if len(ms.read) < maxManifests {
			break
		}
		delete(ms.read, other)
	}
	m := manifest{content: content, file: info, tag: shard.Digest(text.Sum(nil))}
	ms.read[what] = m
	return m, nil
}

// isSame reports whether two descriptions are of the same file with the same content, as
// far as they show that.
func isSame(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
