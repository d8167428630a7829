// Package reuse finds the bytes of a version that are on this machine already, by digests: as
// a shard or as a file of another version, or in any file. It refuses to know HTTP, and where
// the version arrives.
//
// It trusts nothing that it finds: a file may have changed since its digest was computed. So
// the caller verifies what was copied, as it verifies bytes from a server.
package reuse

import (
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// A Stream is the bytes of a version, or of a file, where they are.
type Stream interface {
	// Parts yields the size bytes from offset on in their order, or ends with an error. A
	// part's file is open until the next part.
	Parts(offset, size int64) iter.Seq2[Part, error]
}

// A Part is size bytes: those of File from At on, or if that is nil those of Text.
type Part struct {
	File *os.File
	At   int64
	Size int64
	Text []byte
}

// Sources are the places where bytes of one version were found. The methods Version and
// Path add some; after the last of these calls Fill may be called from any goroutine.
type Sources struct {
	manifest shard.Manifest
	tree     *tree.Tree // or nil
	logger   *slog.Logger

	mu     sync.Mutex // guards what follows
	wanted map[content]place
	filled map[int]bool // numbers of shards
}

// content is a digest and a size in bytes.
type content struct {
	digest shard.Digest
	size   int64
}

// place is where a content is. The zero value is nowhere.
type place struct {
	in     Stream
	offset int64
}

// New returns the sources of the version that m describes, which is the tree t unless that
// is nil, without any place.
func New(m shard.Manifest, t *tree.Tree, logger *slog.Logger) *Sources {
	s := &Sources{
		manifest: m, tree: t, logger: logger, wanted: make(map[content]place), filled: make(map[int]bool),
	}
	for c := range contents(m, t) {
		s.wanted[c] = place{}
	}
	return s
}

// contents yields all that has a digest in a version, and its offset.
func contents(m shard.Manifest, t *tree.Tree) iter.Seq2[content, int64] {
	return func(yield func(content, int64) bool) {
		if m.Size > 0 && !yield(content{m.Digest, m.Size}, 0) {
			return
		}
		for i := range m.Shards {
			s := m.Shard(i + 1)
			if s.Digest != (shard.Digest{}) && !yield(content{s.Digest, s.Size}, s.Offset) {
				return
			}
		}
		if t == nil {
			return
		}
		for _, f := range t.Files() {
			if f.Size > 0 && !yield(content{f.Digest, f.Size}, f.Offset) {
				return
			}
		}
	}
}

// Version adds what another version has, whose manifest is m and whose stream is in. It is
// the tree t, unless that is nil.
func (s *Sources) Version(m shard.Manifest, t *tree.Tree, in Stream) {
	for c, offset := range contents(m, t) {
		s.found(c, place{in, offset})
	}
}

// found notes where c is, if that is wanted and was not found before.
func (s *Sources) found(c content, at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.wanted[c]; ok && known.in == nil {
		s.wanted[c] = at
	}
}

// place returns where c is.
func (s *Sources) place(c content) place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted[c]
}

// A Target is where a shard arrives. Offsets count from its start.
type Target interface {
	WriteAt(p []byte, offset int64) (int, error)

	// CopyAt is WriteAt with size bytes of src from the offset from on, see [disk.Copy].
	CopyAt(src *os.File, from, offset, size int64) error
}

// Fill copies what was found of sh to its place, but for what is there, and returns all that
// may be there then, as [disk.Written] does. The first call for a shard alone copies: it
// comes from servers after that, if it was wrong. An error is one of a full disk; what
// cannot be copied for another reason is left out.
func (s *Sources) Fill(sh shard.Shard, there []disk.Range, to Target) ([]disk.Range, error) {
	if s == nil || s.isFilled(sh.Number) {
		return there, nil
	}
	for _, run := range s.runs(sh) {
		if covers(there, run.Range) || !worthwhile(run.Range, sh.Size) {
			continue
		}
		err := s.copy(run, to)
		if disk.IsFull(err) {
			return there, err
		}
		if err != nil {
			s.logger.Warn("known bytes not reused", "shard", sh.Number, "bytes", run.To-run.From, "err", err)
			continue
		}
		there = Union(there, run.Range)
	}
	return there, nil
}

// isFilled reports whether the shard of that number was filled, and notes that it is.
func (s *Sources) isFilled(number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.filled[number]
	s.filled[number] = true
	return was
}

// run is a range of a shard, and the pieces that it is copied from, in their order.
type run struct {
	disk.Range

	pieces []piece
}

// piece is where size bytes are: at a place, or if that is none, in the list of files.
type piece struct {
	at   place
	size int64
	made tree.Piece
}

// runs returns the ranges of sh that are known, ascending, none of which borders on another.
func (s *Sources) runs(sh shard.Shard) []run {
	whole := func(at place) []run {
		return []run{{disk.Range{To: sh.Size}, []piece{{at: at, size: sh.Size}}}}
	}
	if at := s.place(content{sh.Digest, sh.Size}); at.in != nil {
		return whole(at)
	}
	if at := s.place(content{s.manifest.Digest, s.manifest.Size}); at.in != nil {
		at.offset += sh.Offset
		return whole(at)
	}
	if s.tree == nil {
		return nil
	}
	var runs []run
	for part := range s.tree.Pieces(sh.Offset, sh.Size) {
		p := piece{size: part.Size, made: part}
		if part.File >= 0 {
			f := s.tree.Files()[part.File]
			if p.at = s.place(content{f.Digest, f.Size}); p.at.in == nil {
				continue
			}
			p.at.offset += part.At
		}
		from := part.Offset - sh.Offset
		if last := len(runs) - 1; last >= 0 && runs[last].To == from {
			runs[last].To += p.size
			runs[last].pieces = append(runs[last].pieces, p)
		} else {
			runs = append(runs, run{disk.Range{From: from, To: from + p.size}, []piece{p}})
		}
	}
	return runs
}

// copy copies a run to a shard's place.
func (s *Sources) copy(r run, to Target) error {
	offset := r.From
	for _, p := range r.pieces {
		var err error
		if p.at.in != nil {
			err = p.copy(to, offset)
		} else {
			_, err = to.WriteAt(s.tree.Made(p.made), offset)
		}
		if err != nil {
			return err
		}
		offset += p.size
	}
	return nil
}

// copy copies a piece from its place.
func (p piece) copy(to Target, offset int64) error {
	end := offset + p.size
	for part, err := range p.at.in.Parts(p.at.offset, p.size) {
		switch {
		case err != nil:
			return err
		case part.File != nil:
			err = to.CopyAt(part.File, part.At, offset, part.Size)
		default:
			_, err = to.WriteAt(part.Text, offset)
		}
		if err != nil {
			return err
		}
		offset += part.Size
	}
	if offset != end {
		return fmt.Errorf("%d bytes are missing", end-offset)
	}
	return nil
}

// leastRun in bytes is worth a request more for the bytes behind it.
const leastRun = 64 << 10

// worthwhile reports whether a range of a shard of size bytes is worth having when what is
// beside it has to be requested.
func worthwhile(r disk.Range, size int64) bool {
	return r.To-r.From >= min(leastRun, size)
}

// Worthwhile returns the ranges, of a shard of size bytes, that are worth having when the rest
// has to be requested, one request for each part: not those of less than 64 KiB.
func Worthwhile(ranges []disk.Range, size int64) []disk.Range {
	return slices.DeleteFunc(slices.Clone(ranges), func(r disk.Range) bool { return !worthwhile(r, size) })
}

// covers reports whether one of ranges has all of r.
func covers(ranges []disk.Range, r disk.Range) bool {
	return slices.ContainsFunc(ranges, func(o disk.Range) bool { return o.From <= r.From && r.To <= o.To })
}

// Union returns ranges, which ascend and do not touch one another, and r as one such list.
func Union(ranges []disk.Range, r disk.Range) []disk.Range {
	var all []disk.Range
	for _, o := range ranges {
		switch {
		case o.To < r.From:
			all = append(all, o)
		case r.To < o.From:
			all = append(all, r)
			r = o
		default:
			r.From, r.To = min(r.From, o.From), max(r.To, o.To)
		}
	}
	return append(all, r)
}
