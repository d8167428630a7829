package match

import (
	"context"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

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

	// workers is how many files are compared at a time: each takes 6 MiB, beside as much for the whole base.
	workers = 2

	// maxOfPair is the most copies for one file of a tree.
	maxOfPair = delta.MaxCopies / 4
)

// Trees returns copies that predict target from base, of which the files are known, those of the target in the order
// of its stream. It compares files on all cores, as far as memory allows. Errors are those of the streams and of ctx.
func Trees(ctx context.Context, base, target delta.Stream, baseFiles, targetFiles []File) ([]delta.Copy, error) {
	pairs, alone := pairUp(baseFiles, targetFiles)
	t := &trees{base: base, target: target, pairs: pairs, found: list{most: delta.MaxCopies}}
	t.turn = make(chan struct{})
	close(t.turn)
	group, ctx := errgroup.WithContext(ctx)
	if alone*worthAll >= base.Size() {
		from, to := span{0, base.Size()}, span{0, target.Size()}
		t.all = newSearcher(newView(base, from, ctx.Err), newView(target, to, ctx.Err), newIndex())
	}
	for range min(runtime.GOMAXPROCS(0), workers) {
		group.Go(func() error { return t.work(ctx) })
	}
	err := group.Wait()
	return t.found.copies, err
}

// trees is one call of Trees. Its goroutines take pairs of files in order, and add their copies in order: each waits
// for its turn.
type trees struct {
	base, target delta.Stream
	pairs        []pair

	looking sync.Mutex // guards all
	all     *searcher  // in the whole base; nil if it is too large for that

	mu   sync.Mutex    // guards these
	next int           // of pairs
	turn chan struct{} // closed when the copies of the next pair may be added

	found list // belongs to the goroutine whose turn it is
}

// take returns the next pair, a channel that is closed when its turn has come, and one to be closed when it is over.
func (t *trees) take() (p pair, mine <-chan struct{}, over chan<- struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next == len(t.pairs) {
		return pair{}, nil, nil, false
	}
	p, mine = t.pairs[t.next], t.turn
	t.next++
	next := make(chan struct{})
	t.turn = next
	return p, mine, next, true
}

func (t *trees) work(ctx context.Context) error {
	m := newMatcher(t.base, t.target, maxOfPair)
	for {
		p, mine, over, ok := t.take()
		if !ok {
			return nil
		}
		m.found = list{copies: m.found.copies[:0], most: maxOfPair}
		if err := t.match(ctx, m, p); err != nil {
			return err
		}
		select {
		case <-mine:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, c := range m.found.copies {
			if p.old != nil && c.Offset == p.now.Offset {
				c = t.withHeader(c)
			}
			t.found.add(c)
		}
		close(over)
	}
}

// match finds the copies of one pair.
func (t *trees) match(ctx context.Context, m *matcher, p pair) error {
	switch {
	case p.old == nil:
		t.looking.Lock()
		defer t.looking.Unlock()
		if t.all == nil {
			return nil
		}
		return t.all.find(&m.found, p.now.span(), false, 0)
	case p.old.Digest == p.now.Digest:
		m.add(p.old.span(), p.now.span(), p.now.Size)
		return nil
	default:
		return m.contents(ctx, p.old.span(), p.now.span())
	}
}

// withHeader extends the copy of a file's beginning to the headers before the file.
func (t *trees) withHeader(c delta.Copy) delta.Copy {
	last := t.found.last()
	gap, size := c.Offset-end(last), int64(header)
	if last.Size > 0 && gap <= maxGap && c.Base-c.Offset == last.Base-last.Offset {
		size = gap
	}
	size = min(size, gap, c.Base)
	return delta.Copy{Offset: c.Offset - size, Base: c.Base - size, Size: c.Size + size}
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
