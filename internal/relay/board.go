// Package relay is what is arriving, for readers to follow: versions whose shards can be
// read here while they come. It refuses to know HTTP, directories, and how the bytes come.
//
// What a reader may lean on: it reads no shard to the end before the shard's digest has
// agreed, since the last [HeldBack] bytes are kept back until then; and when the digest
// does not agree, or the rest does not come, every reader of the shard gets [ErrBroken].
// What a writer may lean on: no reader, however slow, holds it up.
//
// Each type locks itself, and calls no method of another one of them with its own lock
// held, but for [signal.Signal].
package relay

import (
	"cmp"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
)

// HeldBack in bytes is the end of a shard that no reader gets before the shard's digest
// agrees, so that no reader completes a wrong shard. It is little beside a shard.
const HeldBack = 64 << 10

// ErrBroken means that a shard, or the rest of one, does not come: its bytes were wrong, the
// fetch has ended, or nothing came within the reader's patience.
var ErrBroken = errors.New("the arriving shard is broken off")

// A File is a shard with some of its bytes, open for reading: a file of its own, or a part
// of one.
type File interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Files adapts open for shards that are files of their own.
func Files(open func(number int) (*os.File, error)) func(number int) (File, error) {
	return func(number int) (File, error) {
		f, err := open(number)
		if err != nil {
			return nil, err // and no interface of a nil file
		}
		return f, nil
	}
}

// A Board is the list of what is arriving at one data directory. Its methods may be called
// from any goroutine.
type Board struct {
	mu       sync.Mutex // guards what follows
	listed   map[shard.Version]distfile.Entry
	arriving map[shard.Version]*Version
	looks    map[*look]struct{}

	changed signal.Signal // of listed
}

// look has the versions that are taken off the board during a [Board.Look].
type look struct {
	gone map[shard.Version]distfile.Entry
}

// NewBoard returns a board with nothing on it.
func NewBoard() *Board {
	return &Board{
		listed: make(map[shard.Version]distfile.Entry), arriving: make(map[shard.Version]*Version),
		looks: make(map[*look]struct{}),
	}
}

// List puts e on offer before it is held, also while no fetch is under way.
func (b *Board) List(e distfile.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Count = 0
	if b.listed[e.Version] != e {
		b.listed[e.Version] = e
		b.changed.Raise()
	}
}

// Unlist takes v off the offer: it is held now, or does not come.
func (b *Board) Unlist(v shard.Version) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.listed[v]; ok {
		for l := range b.looks {
			l.gone[v] = e
		}
		delete(b.listed, v)
		b.changed.Raise()
	}
}

// Listed returns the entries on offer, ascending, and a channel that is closed when they
// change.
func (b *Board) Listed() ([]distfile.Entry, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return ascending(b.listed), b.changed.Wait()
}

// ascending returns entries by their numbers.
func ascending(entries map[shard.Version]distfile.Entry) []distfile.Entry {
	return slices.SortedFunc(maps.Values(entries), func(a, b distfile.Entry) int {
		return cmp.Compare(a.Version, b.Version)
	})
}

// Look calls f, and returns all entries that were listed at any time meanwhile, ascending, of
// each version the last one. So a version that moves between the board and another place is in
// one of the two, if f looks there.
func (b *Board) Look(f func()) []distfile.Entry {
	l := &look{gone: make(map[shard.Version]distfile.Entry)}
	b.mu.Lock()
	b.looks[l] = struct{}{}
	b.mu.Unlock()
	f()
	b.mu.Lock()
	delete(b.looks, l)
	maps.Copy(l.gone, b.listed)
	b.mu.Unlock()
	return ascending(l.gone)
}

// Lists reports whether v is on offer.
func (b *Board) Lists(v shard.Version) bool {
	_, listed := b.Find(v)
	return listed
}

// Find returns the version v as it is arriving, or nil while no fetch of it is under way,
// and whether v is on offer.
func (b *Board) Find(v shard.Version) (arriving *Version, listed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, listed = b.listed[v]
	return b.arriving[v], listed
}

// Version returns the version v as it is arriving, or nil.
func (b *Board) Version(v shard.Version) *Version {
	arriving, _ := b.Find(v)
	return arriving
}

// Begin puts e on the board as arriving, in place of another version of that number: with
// the manifest m, and over so many tiers of servers. open opens a shard of which something
// has been written; after [Version.End] it may open one of another file.
func (b *Board) Begin(e distfile.Entry, m shard.Manifest, tier int, open func(number int) (File, error)) *Version {
	v := &Version{
		Entry: e, Manifest: m, Tier: tier,
		board: b, open: open, wanted: make(chan int, len(m.Shards)),
		hasDigests: m.Digest != shard.Digest{} && !slices.Contains(m.Shards, shard.Digest{}),
		text:       sync.OnceValues(m.Encode),
		shards:     make([]*Shard, len(m.Shards)),
	}
	b.mu.Lock()
	before := b.arriving[e.Version]
	b.arriving[e.Version] = v
	b.mu.Unlock()
	if before != nil {
		before.End()
	}
	return v
}

// remove takes v off the board, unless another version has taken its place.
func (b *Board) remove(v *Version) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.arriving[v.Entry.Version] == v {
		delete(b.arriving, v.Entry.Version)
	}
}

// Arriving returns the versions that are being fetched, ascending.
func (b *Board) Arriving() []*Version {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.Collect(maps.Values(b.arriving))
	slices.SortFunc(all, func(a, b *Version) int { return cmp.Compare(a.Entry.Version, b.Entry.Version) })
	return all
}

// Count returns the number of versions that are on offer before they are held, or being
// fetched, and the number of shards that these fetches have yet to bring.
func (b *Board) Count() (versions, missing int) {
	listed, _ := b.Listed()
	numbers := make(map[shard.Version]bool, len(listed))
	for _, e := range listed {
		numbers[e.Version] = true
	}
	for _, v := range b.Arriving() {
		numbers[v.Entry.Version] = true
		for e := range v.Extents() {
			if !e.Verified {
				missing++
			}
		}
	}
	return len(numbers), missing
}

// A Version is one that is arriving. Its exported fields never change.
type Version struct {
	// Entry is the version's line in the distribution.
	Entry distfile.Entry

	// Manifest lacks the digests of the shards where no upstream has a manifest, see
	// [Version.HasDigests].
	Manifest shard.Manifest

	// Tier is the number of servers on its way here, this one included.
	Tier int

	board      *Board
	open       func(number int) (File, error)
	wanted     chan int
	hasDigests bool

	mu     sync.Mutex             // guards what follows
	text   func() ([]byte, error) // of the manifest
	shards []*Shard               // nil where no call was for the shard yet
	deltas map[shard.Version]*Version
	ended  bool

	brought signal.Signal // of deltas
}

// Wanted yields the numbers of shards that a reader waits for and no fetch has begun.
func (v *Version) Wanted() <-chan int { return v.wanted }

// HasDigests reports whether the manifest has the digests of the file and of all shards.
func (v *Version) HasDigests() bool { return v.hasDigests }

// SetText has [Version.Text] return the manifest as it came.
func (v *Version) SetText(text []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.text = func() ([]byte, error) { return text, nil }
}

// Text returns the manifest in its written form. It fails without [Version.HasDigests].
func (v *Version) Text() ([]byte, error) {
	v.mu.Lock()
	text := v.text
	v.mu.Unlock()
	return text()
}

// Shard returns shard number, from 1 to the number of shards.
func (v *Version) Shard(number int) *Shard {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.shards[number-1]
	if s == nil {
		s = &Shard{version: v, number: number, size: v.Manifest.Shard(number).Size, ended: v.ended}
		v.shards[number-1] = s
	}
	return s
}

// Open opens a shard of which something has been written. It returns [ErrBroken] after
// [Version.End]: then the shard is held, or does not come.
func (v *Version) Open(number int) (File, error) {
	f, err := v.open(number)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	ended := v.ended
	v.mu.Unlock()
	if ended {
		return nil, errors.Join(ErrBroken, f.Close())
	}
	return f, nil
}

// End takes the version off the board: no more of it comes, and readers of shards that are
// not verified get [ErrBroken].
func (v *Version) End() {
	v.mu.Lock()
	v.ended = true
	v.mu.Unlock()
	for _, s := range v.begun() {
		if s != nil {
			s.end()
		}
	}
	v.board.remove(v)
}

// begun returns the shards in order, nil where no call was for the shard yet.
func (v *Version) begun() []*Shard {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.shards)
}

// Extent describes how much there is of a shard.
type Extent struct {
	// Verified means that the whole shard is here, and right.
	Verified bool

	// Begun means that a fetch brings the shard, or was asked to.
	Begun bool

	// Direct means that the sender holds the whole shard, see [Shard.From].
	Direct bool

	// Bytes is the number of bytes that have come. Those of an earlier run count once the
	// shard is verified.
	Bytes int64
}

// Extents yields the extent of each shard, from the first to the last.
func (v *Version) Extents() iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for _, s := range v.begun() {
			var e Extent
			if s != nil {
				e = s.extent()
			}
			if !yield(e) {
				return
			}
		}
	}
}
