package match

import (
	"context"
	"strings"

	"github.com/shardcast/shardcast/internal/delta"
)

// File is a file of a tree: its content is Size bytes of the tree's stream from Offset on.
type File struct {
	Path   string
	Offset int64
	Size   int64
	Digest string // a name for the content: files that have the same one are equal
}

func (f File) span() span { return span{f.Offset, f.Offset + f.Size} }

const (
	// header is how many bytes of the stream before a file are predicted with it.
	header = 512

	// maxGap is how many are if what is before them is predicted by what is before in the base, too: those that fill up
	// the file before, and three headers.
	maxGap = 4 * header

	// worthAll is how many times as large as the files without a counterpart the base may be, to be looked through
	// for them.
	worthAll = 64
)

// Trees returns copies that predict target from base, of which the files are known, those of the target in the order
// of its stream. Errors are those of the streams and of ctx.
func Trees(ctx context.Context, base, target delta.Stream, baseFiles, targetFiles []File) ([]delta.Copy, error) {
	m := newMatcher(base, target)
	pairs, alone := pairUp(baseFiles, targetFiles)
	var all *searcher // in the whole base
	if alone*worthAll >= base.Size() {
		from, to := span{0, base.Size()}, span{0, target.Size()}
		all = newSearcher(newView(base, from, ctx.Err), newView(target, to, ctx.Err), newIndex())
	}
	for _, p := range pairs {
		before := len(m.copies)
		var err error
		switch {
		case p.old == nil && all != nil:
			err = m.searchWith(all, p.now.span(), false, 0)
		case p.old == nil:
		case p.old.Digest == p.now.Digest:
			m.add(p.old.span(), p.now.span(), p.now.Size)
		default:
			err = m.contents(ctx, p.old.span(), p.now.span())
		}
		if err != nil {
			return nil, err
		}
		if p.old != nil && len(m.copies) > before {
			m.frame(before, p.now.Offset)
		}
	}
	return m.finish(), nil
}

// frame extends the copy i, if it begins with a file, to the headers before the file.
func (m *matcher) frame(i int, offset int64) {
	c := &m.copies[i]
	if c.Offset != offset {
		return
	}
	gap, size := c.Offset, int64(header)
	if i > 0 {
		last := m.copies[i-1]
		gap -= last.Offset + last.Size
		if gap <= maxGap && c.Base-c.Offset == last.Base-last.Offset {
			size = gap
		}
	}
	size = min(size, gap, c.Base)
	c.Offset -= size
	c.Base -= size
	c.Size += size
}

// pair is a file of the target, and the one of the base that is its older state, or nil.
type pair struct{ old, now *File }

// pairUp finds for each file that is not empty one of the same content, else of the same path, else of a path that
// differs in its numbers alone, and no file has or had. The sizes of those without any are alone together.
func pairUp(base, target []File) (pairs []pair, alone int64) {
	paths, digests, numbered := map[string]*File{}, map[string]*File{}, map[string][]*File{}
	for i := range target {
		paths[target[i].Path] = nil
	}
	for i := range base {
		f := &base[i]
		if f.Size == 0 {
			continue
		}
		if _, stays := paths[f.Path]; !stays {
			key := withoutNumbers(f.Path)
			numbered[key] = append(numbered[key], f)
		}
		paths[f.Path] = f
		digests[f.Digest] = f
	}
	for i := range target {
		f := &target[i]
		if f.Size == 0 {
			continue
		}
		old := paths[f.Path]
		if same := digests[f.Digest]; same != nil && same.Size == f.Size && (old == nil || old.Digest != f.Digest) {
			old = same
		}
		if key := withoutNumbers(f.Path); old == nil && len(numbered[key]) > 0 {
			old, numbered[key] = numbered[key][0], numbered[key][1:]
		}
		if old == nil {
			alone += f.Size
		}
		pairs = append(pairs, pair{old, f})
	}
	return pairs, alone
}

// withoutNumbers is the path with 0 in place of each number.
func withoutNumbers(path string) string {
	var b strings.Builder
	number := false
	for i := range len(path) {
		c := path[i]
		if digit := c >= '0' && c <= '9'; digit {
			if !number {
				b.WriteByte('0')
			}
			number = true
			continue
		}
		number = false
		b.WriteByte(c)
	}
	return b.String()
}
