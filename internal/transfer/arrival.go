package transfer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/verify"
)

// An Arrival is one shard on its way into its place. It consists of spans.
type Arrival struct {
	place Place
	begun time.Time
	made  int64 // bytes that the giver has brought; for the worker that checks the shard

	mu       sync.Mutex // guards what follows, the spans, and the check while spans are pending
	check    *verify.Check
	spans    []*Span // what was missing at first, ascending
	pending  int     // spans that are not over
	finished bool    // a worker is checking the whole, or has
	best     int64   // how far any server has come alone
}

// A Span is a range of a shard that one worker brings, in order. Another one may take over
// its end, or race it.
type Span struct {
	arrival *Arrival

	at, to int64 // what is still to come
	pulls  []*pull
	crawls int // how often a pull was given up for being slow
}

// Open begins a shard: with the data that is there of it, for which it waits if that is about to come from the
// giver, and with spans for the rest.
func (t *Transfer) Open(ctx context.Context, number int) (*Arrival, error) {
	t.mu.Lock()
	t.open[number] = nil
	s := t.opts.Manifest.Shard(number)
	s.Digest = t.digests[number-1]
	t.mu.Unlock()
	made, doubtful, err := t.opts.Giver.Await(ctx, number)
	if err != nil {
		return nil, &roster.Setback{Err: err, What: roster.Stop}
	}
	place, err := t.opts.Sink.Open(s)
	if err != nil {
		return nil, &roster.Setback{Err: err, What: roster.Stop}
	}
	var written []disk.Range
	if t.opts.Afresh || doubtful {
		t.audience.Forget(number)
	} else if written, err = place.Written(); err != nil {
		return nil, &roster.Setback{Err: errors.Join(err, place.Close()), What: roster.Stop}
	}
	a := &Arrival{place: place, begun: time.Now()}
	if written = union(written, made); doubtful {
		written, made = nil, nil
	}
	a.made = sizeOf(made)
	at, present := int64(0), int64(0)
	for _, r := range append(written, disk.Range{From: s.Size, To: s.Size}) {
		if at < r.From {
			a.add(at, r.From)
		}
		present += r.To - r.From
		at = r.To
	}
	a.check = t.opts.Verifier.Began(s, place, present)
	t.opts.Tally.found(present)
	t.mu.Lock()
	t.open[number] = a
	t.mu.Unlock()
	if len(a.spans) > 0 {
		buf, _ := t.buffers.Get().(*[]byte)
		defer t.buffers.Put(buf)
		defer t.opts.Tally.Checks()()
		if err := a.check.ReadBack(a.spans[0].at, *buf); err != nil {
			return nil, &roster.Setback{Err: err, What: roster.Stop}
		}
	}
	return a, nil
}

// union returns the ranges that are in a or b, which both ascend.
func union(a, b []disk.Range) (all []disk.Range) {
	if len(b) == 0 {
		return a
	}
	both := slices.Concat(a, b)
	slices.SortFunc(both, func(a, b disk.Range) int { return cmp.Compare(a.From, b.From) })
	for _, r := range both {
		if last := len(all) - 1; last >= 0 && r.From <= all[last].To {
			all[last].To = max(all[last].To, r.To)
		} else {
			all = append(all, r)
		}
	}
	return all
}

// sizeOf is the number of bytes in ranges.
func sizeOf(ranges []disk.Range) (size int64) {
	for _, r := range ranges {
		size += r.To - r.From
	}
	return size
}

// Drop forgets all that has come of a, and closes its place. The shard can be opened again.
func (t *Transfer) Drop(a *Arrival) error {
	fetched := a.check.Fetched()
	t.opts.Tally.wrong(a.check.Present(), fetched)
	if fetched > 0 {
		t.audience.Forget(a.Number())
	}
	t.mu.Lock()
	delete(t.open, a.Number())
	t.mu.Unlock()
	if err := a.place.Close(); err != nil {
		return &roster.Setback{Err: err, What: roster.Stop}
	}
	return nil
}

// Number is the shard's.
func (a *Arrival) Number() int { return a.check.Shard.Number }

// IsWorthKeeping reports whether anything is known of a that would be lost if it was
// dropped: bytes, or which servers may have sent wrong ones.
func (a *Arrival) IsWorthKeeping() (bytes, blame bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.check.Fetched()+a.check.Present() > 0, a.check.Wrongs() > 0
}

// Missing returns the spans that are not over.
func (a *Arrival) Missing() []*Span {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.spans), (*Span).over)
}

// add adds a span, with a locked or before it is shared.
func (a *Arrival) add(from, to int64) *Span {
	s := &Span{arrival: a, at: from, to: to}
	a.spans = append(a.spans, s)
	a.pending++
	return s
}

// finish reports whether all of a has come and no other worker was told so.
func (a *Arrival) finish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending > 0 || a.finished {
		return false
	}
	a.finished = true
	return true
}

// again begins a anew, as the verdict says, and returns how many bytes were there before.
func (a *Arrival) again(v verify.Verdict) (present int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	present = a.check.Present()
	a.check.Again(v)
	a.spans, a.pending, a.finished, a.best = nil, 0, false, 0
	a.add(0, a.check.Shard.Size)
	return present
}

// isAlone reports whether a is to come from one server alone.
func (a *Arrival) isAlone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.check.Alone()
}

// over reports whether all of s has come, with its arrival locked.
func (s *Span) over() bool { return s.at >= s.to }

// Shard is the arrival that s is a part of.
func (s *Span) Shard() *Arrival { return s.arrival }

// left returns how many bytes are still to come.
func (s *Span) left() int64 {
	s.arrival.mu.Lock()
	defer s.arrival.mu.Unlock()
	return s.to - s.at
}

// join registers a pull of the rest of s. It returns nil if there is nothing to do: all of
// it has come, or another worker brings it and this is not meant to be a race. It reports
// how many bytes are dropped, because the shard is to come from one server alone, and
// another one begins.
func (s *Span) join(from *remote.Server, race bool, cancel context.CancelCauseFunc) (p *pull, dropped int64) {
	a := s.arrival
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.over() || (len(s.pulls) > 0 && !race) {
		return nil, 0
	}
	if a.check.Alone() && s.at > 0 && !a.check.SentBy(from.Name, s.at) {
		dropped = s.at
		s.at = 0
		a.check.Anew()
	}
	p = &pull{span: s, server: from, from: s.at, to: s.to, cancel: cancel}
	s.pulls = append(s.pulls, p)
	return p, dropped
}

// leave ends p, and reports how much was gained by it and whether its span is over. A
// server that sends a shard alone gains only what no server alone has come to before.
func (s *Span) leave(p *pull) (gained int64, over bool) {
	a := s.arrival
	a.mu.Lock()
	defer a.mu.Unlock()
	s.pulls = slices.DeleteFunc(s.pulls, func(o *pull) bool { return o == p })
	gained = p.used
	if a.check.Alone() && slices.Contains(a.spans, s) {
		gained = max(0, s.at-a.best)
		a.best = max(a.best, s.at)
	}
	return gained, s.over()
}

// errOver ends a pull whose bytes another one has brought.
var errOver = errors.New("the bytes came from elsewhere")

// take writes what p has received at offset, as far as it is wanted, and returns how many
// bytes more are, after these, and how many of these were.
func (s *Span) take(p *pull, offset int64, data []byte) (left, used int64, err error) {
	a := s.arrival
	a.mu.Lock()
	defer a.mu.Unlock()
	end := offset + int64(len(data))
	if offset <= s.at && s.at < min(end, s.to) {
		fresh := data[s.at-offset : min(end, s.to)-offset]
		if err := a.check.Compare(s.at, fresh); err != nil {
			return 0, 0, err
		}
		if _, err := a.place.WriteAt(fresh, s.at); err != nil {
			return 0, 0, err
		}
		a.check.Wrote(verify.Sender{Name: p.server.Name, Relayed: p.relayed}, s.at, fresh)
		if p.used == 0 {
			a.check.Part()
		}
		used = int64(len(fresh))
		s.at += used
		p.used += used
		if s.over() {
			a.pending--
			for _, other := range s.pulls {
				if other != p {
					other.cancel(errOver)
				}
			}
		}
	}
	if s.over() {
		return 0, used, nil
	}
	return s.to - end, used, nil
}

// split returns the end of s as a span of its own, or all of s for a race, or nil: share
// says how many of the bytes that are left to split off, 0 for a race, or less for
// nothing. What one pull brings alone is not split, and no race is raced.
func (s *Span) split(share func(left int64) int64) *Span {
	a := s.arrival
	a.mu.Lock()
	defer a.mu.Unlock()
	left := s.to - s.at
	if a.check.Alone() || left <= 0 || len(s.pulls) > 1 {
		return nil
	}
	switch bytes := share(left); {
	case bytes < 0:
		return nil
	case bytes == 0:
		return s
	default:
		end := a.add(s.to-bytes, s.to)
		s.to -= bytes
		return end
	}
}
