package match

import (
	"context"
	"fmt"

	"github.com/shardcast/shardcast/internal/delta"
)

// Streams returns copies that predict target from base, of which nothing is known. Errors are those of the streams
// and of ctx.
func Streams(ctx context.Context, base, target delta.Stream) ([]delta.Copy, error) {
	m := newMatcher(base, target, delta.MaxCopies)
	err := m.contents(ctx, span{0, base.Size()}, span{0, target.Size()})
	return m.found.copies, err
}

// span is a part of a stream.
type span struct{ start, end int64 }

func (s span) size() int64 { return s.end - s.start }

// matcher collects the copies of a target, or of a part of it. It belongs to one goroutine.
type matcher struct {
	base, target delta.Stream
	found        list
	index        *index // for one search after the other
}

// newMatcher returns one that finds at most so many copies.
func newMatcher(base, target delta.Stream, most int) *matcher {
	return &matcher{base: base, target: target, found: list{most: most}, index: newIndex()}
}

// add adds a copy of the first size bytes of from.
func (m *matcher) add(from, to span, size int64) {
	m.found.add(delta.Copy{Offset: to.start, Base: from.start, Size: size})
}

// contents predicts a part of the target from one of the base, which is an older state of the same.
func (m *matcher) contents(ctx context.Context, from, to span) error {
	old, ok, err := readTensors(m.base, from)
	if err != nil {
		return fmt.Errorf("base: %w", err)
	}
	if ok {
		now, ok, err := readTensors(m.target, to)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if ok {
			m.tensors(old, now, from, to)
			return nil
		}
	}
	if from.size() == to.size() {
		alike, err := m.alike(from, to)
		if err != nil {
			return err
		}
		if alike {
			m.add(from, to, to.size())
			return nil
		}
	}
	return m.search(ctx, from, to)
}

// alike says whether the two parts, of the same size, have about the same bytes at the same places: each of the
// samples has a quarter of its bytes equal, which bytes that belong elsewhere seldom have.
func (m *matcher) alike(from, to span) (bool, error) {
	const samples, size, enough = 256, 256, 64
	step := max(size, to.size()/samples)
	var p, q [size]byte
	for at := int64(0); at < to.size(); at += step {
		n := min(size, to.size()-at)
		if err := readFull(m.base, p[:n], from.start+at); err != nil {
			return false, fmt.Errorf("base: %w", err)
		}
		if err := readFull(m.target, q[:n], to.start+at); err != nil {
			return false, fmt.Errorf("target: %w", err)
		}
		equal := 0
		for i := range n {
			if p[i] == q[i] {
				equal++
			}
		}
		if int64(equal)*size < enough*n {
			return false, nil
		}
	}
	return true, nil
}

// search looks for the bytes of a part of the target in one of the base, where they may have moved. They are first
// looked for at the same distance from its start.
func (m *matcher) search(ctx context.Context, from, to span) error {
	s := newSearcher(newView(m.base, from, ctx.Err), newView(m.target, to, ctx.Err), m.index)
	return s.find(&m.found, to, true, from.start-to.start)
}
