// Package reuse finds the bytes of a version that are on this machine already, by digests: as
// a shard or as a file of another version, or in any file. It refuses to know HTTP, and where
// the version arrives.
//
// It trusts nothing that it finds: a file may have changed since its digest was computed. So
// the caller verifies what was copied, as it verifies bytes from a server.
package reuse

import (
	"bytes"
	"cmp"
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
	order    []int32 // numbers of contents, see content, by their digests and sizes

	mu     sync.Mutex // guards what follows
	places []place    // by the numbers of contents
	filled map[int]bool
}

// content is a digest and a size in bytes.
type content struct {
	digest shard.Digest
	size   int64
}

// compare is that of [cmp.Compare].
func (c content) compare(o content) int {
	return cmp.Or(bytes.Compare(c.digest[:], o.digest[:]), cmp.Compare(c.size, o.size))
}

// place is where a content is. The zero value is nowhere.
type place struct {
	in     Stream
	offset int64
}

// New returns the sources of the version that m describes, which is the tree t unless that
// is nil, without any place.
func New(m shard.Manifest, t *tree.Tree, logger *slog.Logger) *Sources {
	s := &Sources{manifest: m, tree: t, logger: logger, filled: make(map[int]bool)}
	count := 1 + len(m.Shards)
	if t != nil {
		count += t.Len()
	}
	s.places, s.order = make([]place, count), make([]int32, 0, count)
	for i := range count {
		if c := s.content(int32(i)); c.size > 0 && c.digest != (shard.Digest{}) {
			s.order = append(s.order, int32(i))
		}
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		return cmp.Or(s.content(a).compare(s.content(b)), cmp.Compare(a, b))
	})
	return s
}

// content returns the content of a number: 0 is the whole, then come the shards and the files. A
// map of them would take as much memory as the list of files.
func (s *Sources) content(number int32) content {
	i := int(number)
	if i == 0 {
		return content{s.manifest.Digest, s.manifest.Size}
	}
	if i <= len(s.manifest.Shards) {
		sh := s.manifest.Shard(i)
		return content{sh.Digest, sh.Size}
	}
	f := s.tree.File(i - 1 - len(s.manifest.Shards))
	return content{f.Digest, f.Size}
}

// find returns the place of a content, or nil if it is not of the version. The caller holds mu.
func (s *Sources) find(c content) *place {
	i, ok := slices.BinarySearchFunc(s.order, c, func(number int32, c content) int {
		return s.content(number).compare(c)
	})
	if !ok {
		return nil
	}
	return &s.places[s.order[i]]
}

// Version adds what another version has, whose manifest is m, whose stream is in, and whose files,
// if it is a tree, are files. Nil files are none.
func (s *Sources) Version(m shard.Manifest, files iter.Seq[tree.File], in Stream) {
	s.found(content{m.Digest, m.Size}, place{in, 0})
	for i := range m.Shards {
		sh := m.Shard(i + 1)
		s.found(content{sh.Digest, sh.Size}, place{in, sh.Offset})
	}
	if files == nil {
		return
	}
	for f := range files {
		s.found(content{f.Digest, f.Size}, place{in, f.Offset})
	}
}

// found notes where c is, if that is wanted and was not found before.
func (s *Sources) found(c content, at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.find(c); p != nil && p.in == nil {
		*p = at
	}
}

// place returns where c is.
func (s *Sources) place(c content) (at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.find(c); p != nil {
		at = *p
	}
	return at
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
	return s.fill(sh, there, to)
}

// Rehearse is [Sources.Fill] with a target that only counts: a call of that copies later.
func (s *Sources) Rehearse(sh shard.Shard, there []disk.Range, to Target) ([]disk.Range, error) {
	if s == nil {
		return there, nil
	}
	return s.fill(sh, there, to)
}

func (s *Sources) fill(sh shard.Shard, there []disk.Range, to Target) ([]disk.Range, error) {
	for run := range s.runs(sh) {
		if covers(there, run.Range) || !worthwhile(run.Range, sh.Size) {
			continue
		}
		err := s.copy(sh, run, to)
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

// Known returns the ranges of the stream that [Sources.Fill] copies of its shards, ascending.
func (s *Sources) Known() (known []disk.Range) {
	if s == nil {
		return nil
	}
	for i := range s.manifest.Shards {
		sh := s.manifest.Shard(i + 1)
		if s.wasFilled(sh.Number) {
			continue
		}
		for run := range s.runs(sh) {
			if worthwhile(run.Range, sh.Size) {
				known = append(known, disk.Range{From: sh.Offset + run.From, To: sh.Offset + run.To})
			}
		}
	}
	return known
}

// wasFilled reports whether the shard of that number was filled.
func (s *Sources) wasFilled(number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.filled[number]
}

// isFilled reports whether the shard of that number was filled, and notes that it is.
func (s *Sources) isFilled(number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.filled[number]
	s.filled[number] = true
	return was
}

// run is a range of a shard that is known: all of it at one place, or if that is none, each file
// at its own, and what is between them by the list of files. It has no list of these, of which a
// shard may have a hundred thousand.
type run struct {
	disk.Range

	at place
}

// runs yields the ranges of sh that are known, ascending, none of which borders on another.
func (s *Sources) runs(sh shard.Shard) iter.Seq[run] {
	at := s.place(content{sh.Digest, sh.Size})
	if at.in == nil {
		if at = s.place(content{s.manifest.Digest, s.manifest.Size}); at.in != nil {
			at.offset += sh.Offset
		}
	}
	switch {
	case at.in != nil:
		return func(yield func(run) bool) { yield(run{disk.Range{To: sh.Size}, at}) }
	case s.tree == nil:
		return func(func(run) bool) {}
	}
	return s.filesOf(sh)
}

// filesOf yields the ranges of sh whose files are known, with what is between them.
func (s *Sources) filesOf(sh shard.Shard) iter.Seq[run] {
	return func(yield func(run) bool) {
		var last run
		for part := range s.tree.Pieces(sh.Offset, sh.Size) {
			if part.Size == 0 || part.File >= 0 && s.placeOf(part).in == nil {
				continue
			}
			from := part.Offset - sh.Offset
			if last.To < from || last.To == 0 {
				if last.To > 0 && !yield(last) {
					return
				}
				last.From = from
			}
			last.To = from + part.Size
		}
		if last.To > 0 {
			yield(last)
		}
	}
}

// placeOf returns the place of a part of a file.
func (s *Sources) placeOf(part tree.Piece) place {
	f := s.tree.File(part.File)
	at := s.place(content{f.Digest, f.Size})
	at.offset += part.At
	return at
}

// copy copies a run of sh to its place.
func (s *Sources) copy(sh shard.Shard, r run, to Target) error {
	if r.at.in != nil {
		return r.at.copy(to, r.From, r.To-r.From)
	}
	for part := range s.tree.Pieces(sh.Offset+r.From, r.To-r.From) {
		offset := part.Offset - sh.Offset
		var err error
		if part.File >= 0 {
			err = s.placeOf(part).copy(to, offset, part.Size)
		} else {
			_, err = to.WriteAt(s.tree.Made(part), offset)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copy copies size bytes from the place.
func (p place) copy(to Target, offset, size int64) error {
	end := offset + size
	for part, err := range p.in.Parts(p.offset, size) {
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
