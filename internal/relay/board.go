// Package relay is what is on its way to where it is kept: versions whose shards
// are read by others while they arrive here. It knows nothing of HTTP, nor of who
// brings the bytes.
//
// What a reader may lean on: no shard is read to its end before its digest has
// agreed, since the last [HeldBack] bytes are kept until then; and when it does not
// agree, or the rest is not to come, every reader of it gets [ErrBroken]. What a
// writer may lean on: no reader, however slow, holds it up.
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

// HeldBack in bytes is what nobody gets of a shard's end before its digest agrees.
const HeldBack = 64 << 10

// ErrBroken means that a shard, or the rest of one, does not come: it was wrong, or
// nobody brings it any more.
var ErrBroken = errors.New("what was arriving here does not come")

// A File is a shard that something has been written of, to be read: a file of its own, or
// a part of one.
type File interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Files is for shards that are files of their own.
func Files(open func(number int) (*os.File, error)) func(number int) (File, error) {
	return func(number int) (File, error) {
		f, err := open(number)
		if err != nil {
			return nil, err // and no interface of a nil file
		}
		return f, nil
	}
}

// A Board is what is arriving at one data directory. Its methods may be called from
// any goroutine.
type Board struct {
	mu       sync.Mutex // guards what follows
	listed   map[shard.Version]distfile.Entry
	arriving map[shard.Version]*Version

	changed signal.Signal // raised when listed changes
}

// NewBoard returns a board with nothing on it.
func NewBoard() *Board {
	return &Board{listed: make(map[shard.Version]distfile.Entry), arriving: make(map[shard.Version]*Version)}
}

// List puts e on offer before it is held, also while nobody brings it.
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
	if _, ok := b.listed[v]; ok {
		delete(b.listed, v)
		b.changed.Raise()
	}
}

// Listed returns what is on offer, ascending, and a channel that is closed when
// that changes.
func (b *Board) Listed() ([]distfile.Entry, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entries := make([]distfile.Entry, 0, len(b.listed))
	for _, e := range b.listed {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	return entries, b.changed.Wait()
}

// Lists reports whether v is on offer.
func (b *Board) Lists(v shard.Version) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.listed[v]
	return ok
}

// Begin says that somebody begins to bring e, which consists of what m says, over so
// many tiers of servers, in place of what was arriving under that number. open opens
// a shard that something has been written of; after [Version.End] it may open another.
func (b *Board) Begin(e distfile.Entry, m shard.Manifest, tier int, open func(number int) (File, error)) *Version {
	v := &Version{
		Entry: e, Manifest: m, Tier: tier,
		board: b, open: open, shards: make([]*Shard, len(m.Shards)), wanted: make(chan int, len(m.Shards)),
		hasDigests: m.Digest != shard.Digest{} && !slices.Contains(m.Shards, shard.Digest{}),
		text:       sync.OnceValues(m.Encode),
	}
	b.mu.Lock()
	before := b.arriving[v.Entry.Version]
	b.arriving[v.Entry.Version] = v
	b.mu.Unlock()
	if before != nil {
		before.End()
	}
	return v
}

// Version returns what is arriving of v, or nil.
func (b *Board) Version(v shard.Version) *Version {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.arriving[v]
}

// A Version is one that is arriving. Its exported fields are not changed.
type Version struct {
	// Entry is the version's line in the distribution.
	Entry distfile.Entry

	// Manifest lacks the digests of the shards where no upstream has a manifest, see
	// [Version.HasDigests].
	Manifest shard.Manifest

	// Tier is how many servers it comes through up to here, this one counted.
	Tier int

	board      *Board
	open       func(number int) (File, error)
	wanted     chan int
	hasDigests bool
	text       func() ([]byte, error) // of the manifest

	mu     sync.Mutex // guards what follows
	shards []*Shard   // nil where nobody has asked
	ended  bool
}

// Wanted yields the numbers of shards that somebody waits for and nobody has begun
// to bring.
func (v *Version) Wanted() <-chan int { return v.wanted }

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

// HasDigests reports whether the manifest has the digests of the file and of all shards.
func (v *Version) HasDigests() bool { return v.hasDigests }

// Text returns the manifest in its written form. It fails without [Version.HasDigests].
func (v *Version) Text() ([]byte, error) { return v.text() }

// Open opens a shard that something has been written of. It returns [ErrBroken] after
// [Version.End]: then the shard is held, or does not come.
func (v *Version) Open(number int) (File, error) {
	f, err := v.open(number)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return nil, errors.Join(ErrBroken, f.Close())
	}
	return f, nil
}

// End says that nothing more comes: readers of what is not verified get
// [ErrBroken].
func (v *Version) End() {
	v.mu.Lock()
	v.ended = true
	shards := slices.Clone(v.shards)
	v.mu.Unlock()
	for _, s := range shards {
		if s != nil {
			s.end()
		}
	}
	v.board.mu.Lock()
	if v.board.arriving[v.Entry.Version] == v {
		delete(v.board.arriving, v.Entry.Version)
	}
	v.board.mu.Unlock()
}

// Arriving returns what somebody brings, ascending.
func (b *Board) Arriving() []*Version {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.Collect(maps.Values(b.arriving))
	slices.SortFunc(all, func(a, b *Version) int { return cmp.Compare(a.Entry.Version, b.Entry.Version) })
	return all
}

// Extent is how much there is of a shard.
type Extent struct {
	// Verified says that all of it is there, and right.
	Verified bool

	// Begun says that somebody brings it, or has been asked to.
	Begun bool

	// Direct says that who sends it holds all of it, see [Shard.From].
	Direct bool

	// Bytes is what has come of it. What an earlier run has left counts once it is
	// verified.
	Bytes int64
}

// Extents yields how much there is of each shard, from the first to the last.
func (v *Version) Extents() iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		v.mu.Lock()
		shards := slices.Clone(v.shards)
		v.mu.Unlock()
		for _, s := range shards {
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

// Count returns how many versions are on their way, those that are on offer and brought
// by nobody included, and how many shards have yet to come of those that somebody brings.
func (b *Board) Count() (versions, missing int) {
	b.mu.Lock()
	coming := make(map[shard.Version]bool, len(b.listed))
	for v := range b.listed {
		coming[v] = true
	}
	arriving := make([]*Version, 0, len(b.arriving))
	for number, v := range b.arriving {
		coming[number] = true
		arriving = append(arriving, v)
	}
	b.mu.Unlock()
	for _, v := range arriving {
		missing += v.missing()
	}
	return len(coming), missing
}

// missing returns how many shards have not been verified.
func (v *Version) missing() int {
	v.mu.Lock()
	shards := slices.Clone(v.shards)
	v.mu.Unlock()
	missing := 0
	for _, s := range shards {
		if s == nil || !s.Verified() {
			missing++
		}
	}
	return missing
}
