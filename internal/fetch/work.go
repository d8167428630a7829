package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// helpAfter is the time that a transfer must still take for an idle worker to
	// help it.
	helpAfter = 500 * time.Millisecond

	// minSplit in bytes is the least that a span is split into.
	minSplit = 64 << 10

	// maxRaced is the part of a file that races may bring twice.
	maxRaced = 0.05

	// minGain in bytes is what a transfer must have brought for its failure not to
	// count, or a quarter of what it was asked for.
	minGain = 64 << 10
)

// work brings shards until all have come.
func (f *fetching) work(ctx context.Context) error {
	buf, _ := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	for {
		s, first, err := f.next(ctx, *buf)
		if s == nil || err != nil {
			return err
		}
		for s != nil && err == nil {
			number := s.shard.Number
			if err = f.bring(ctx, s, first, *buf); err == nil {
				s, err = s.finish(ctx, *buf)
			}
			if err != nil {
				return fmt.Errorf("shard %d: %w", number, err)
			}
			first = nil
		}
	}
}

// next returns the next span to bring: of the shards in ascending order, and then
// to help another worker, from upstream first if that is not nil. It waits for
// something to do, and returns nil when all has come.
func (f *fetching) next(ctx context.Context, buf []byte) (s *span, first *upstream, err error) {
	for ctx.Err() == nil {
		f.mu.Lock()
		changed := f.changed
		var fresh shard.Shard
		switch {
		case len(f.waiting) > 0:
			s = f.waiting[0]
			f.waiting = f.waiting[1:]
		case f.done == len(f.digests):
			f.mu.Unlock()
			return nil, nil, nil
		default:
			if fresh = f.fresh(); fresh.Number == 0 {
				s, first = f.help()
			}
		}
		idle := s == nil && fresh.Number == 0
		if idle {
			f.resting++
		}
		f.mu.Unlock()
		switch {
		case s != nil:
			return s, first, nil
		case !idle:
			if err := f.begin(ctx, fresh, buf); err != nil {
				return nil, nil, fmt.Errorf("shard %d: %w", fresh.Number, err)
			}
			continue
		}
		select {
		case <-changed:
			f.mu.Lock()
		case number := <-f.sink.Wanted():
			f.mu.Lock()
			f.wanted = append(f.wanted, number)
		case <-ctx.Done():
			f.mu.Lock()
		}
		f.resting--
		f.mu.Unlock()
	}
	return nil, nil, context.Cause(ctx)
}

// fresh returns the shard to begin: the first that somebody waits for, or else that
// is missing, or none. The caller holds mu.
func (f *fetching) fresh() shard.Shard {
	for asked := true; asked; {
		select {
		case number := <-f.sink.Wanted():
			f.wanted = append(f.wanted, number)
		default:
			asked = false
		}
	}
	f.wanted = slices.DeleteFunc(f.wanted, func(number int) bool { return f.begun[number-1] })
	for _, number := range f.wanted {
		return f.shard(number)
	}
	if f.isReserved() {
		return shard.Shard{}
	}
	for f.cursor < len(f.begun) && f.begun[f.cursor] {
		f.cursor++
	}
	if f.cursor < len(f.begun) {
		return f.shard(f.cursor + 1)
	}
	return shard.Shard{}
}

// mostUnasked is how many shards that nobody has waited for are brought at the same
// time, while somebody waits for others.
const mostUnasked = 2

// isReserved reports whether what there is of workers and rate is for those who wait.
// The caller holds mu.
func (f *fetching) isReserved() bool {
	under := slices.Collect(maps.Keys(f.opening))
	for a := range f.open {
		under = append(under, a.shard.Number)
	}
	unasked := 0
	for _, number := range under {
		if !f.sink.Asked(number) {
			unasked++
		}
	}
	return unasked >= mostUnasked && unasked < len(under)
}

// shard returns shard number, which is begun. The caller holds mu.
func (f *fetching) shard(number int) shard.Shard {
	f.begun[number-1] = true
	f.opening[number] = true
	s := f.manifest.Shard(number)
	s.Digest = f.digests[number-1]
	return s
}

// begin opens a shard, looks at what is there of it and has the rest brought.
func (f *fetching) begin(ctx context.Context, s shard.Shard, buf []byte) error {
	a, err := f.arrival(s)
	if err != nil {
		return local{err}
	}
	f.mu.Lock()
	f.open[a] = true
	delete(f.opening, s.Number)
	f.mu.Unlock()
	missing := slices.Clone(a.spans)
	if len(missing) == 0 {
		again, err := a.finish(ctx, buf)
		if again == nil || err != nil {
			return err
		}
		missing = append(missing, again)
	} else if a.byItself {
		if err := a.readBack(missing[0].at, buf); err != nil {
			return local{err}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, missing...)
	return nil
}

// arrived notes that a is in its place, and right.
func (f *fetching) arrived(a *arrival) {
	f.tally.resume(a.present)
	if a.shard.Digest != (shard.Digest{}) {
		f.opts.Metrics.Verified(1)
	}
	if a.present < a.shard.Size {
		f.opts.Metrics.Fetched(time.Since(a.begun))
	}
	f.opts.Logger.Debug("shard fetched", "version", f.entry.Version.String(), "shard", a.shard.Number,
		"upstreams", names(a.senders()), "bytes", a.shard.Size-a.present, "resumed", a.present)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range a.senders() {
		f.senders[u.name] = true
	}
	if a.present > 0 {
		f.senders[""] = true
	}
	delete(f.open, a)
	f.done++
	if f.kept != nil {
		f.kept <- a.shard.Number
	}
	f.wake()
	f.swarm.arrived()
}

// wake has idle workers look for something to do. The caller holds mu.
func (f *fetching) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// help finds something for an idle worker to do: the end of what the transfer that
// takes longest has yet to bring, in proportion to how fast the upstream is that is
// drawn for it; or, where that is too little to be split, all of it once more. The
// caller holds mu.
func (f *fetching) help() (*span, *upstream) {
	slow := make([]*transfer, 0, len(f.transfers))
	for t := range f.transfers {
		if t.pace.count >= knownAfter {
			slow = append(slow, t)
		}
	}
	slices.SortFunc(slow, func(a, b *transfer) int { return cmp.Compare(b.left(), a.left()) })
	for _, t := range slow {
		if t.left() < helpAfter.Seconds() {
			break
		}
		if s, u := f.helpWith(t); s != nil {
			return s, u
		}
	}
	return nil, nil
}

// left is how many seconds t still takes at its speed.
func (t *transfer) left() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return float64(t.span.to-t.at) / max(t.pace.speed(), 1)
}

func (f *fetching) helpWith(t *transfer) (*span, *upstream) {
	q := f.quest()
	can := func(u *upstream) bool { return f.free(u) && !f.rangeless(u) && f.mayAsk(q, u) }
	// Not the same one again if there is another: it may be what is slow.
	u := f.pick(func(u *upstream) bool { return u != t.upstream && can(u) })
	if u == nil {
		u = f.pick(can)
	}
	if u == nil {
		return nil, nil
	}
	speed := t.pace.speed()
	rate := cmp.Or(f.rank.Throughput(u.index), max(speed, 1))
	t.mu.Lock()
	defer t.mu.Unlock()
	left := t.span.to - t.at
	if t.alone || left <= 0 || len(t.transfers) > 1 {
		return nil, nil
	}
	share := int64(float64(left) * rate / (rate + speed))
	if share = min(share, left-minSplit); share >= minSplit {
		return t.split(t.span, share), u
	}
	if rate > 2*speed && f.tally.race(left, f.manifest.Size) {
		return t.span, u
	}
	return nil, nil
}

// rangeless reports whether u is known to send all where a part is asked for.
func (p *Pool) rangeless(u *upstream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return u.rangeless
}

// isAlone reports whether only one upstream may bring a.
func (a *arrival) isAlone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.alone
}

// split makes the last bytes of s a span of its own. The caller holds mu.
func (a *arrival) split(s *span, bytes int64) *span {
	from := s.to - bytes
	end := a.add(from, s.to)
	s.to = from
	return end
}

// bring brings s, beginning with first if that is not nil. It may leave while
// somebody else still brings it.
func (f *fetching) bring(ctx context.Context, s *span, first *upstream, buf []byte) error {
	q := f.quest()
	q.first = first
	q.try = func(u *upstream) error {
		helping := u == first
		first = nil
		return f.transfer(ctx, s, u, helping, buf)
	}
	return f.retry(ctx, q)
}

// quest is for any shard, without anything to try.
func (f *fetching) quest() quest {
	q := quest{entry: f.entry, refused: &f.refused}
	if f.only != nil {
		q.may = func(u *upstream) bool { return u == f.only }
	}
	return q
}

// isFrom reports whether all that has arrived was sent by u.
func (f *fetching) isFrom(u *upstream) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.senders) == 1 && f.senders[u.name]
}

// told returns the digest of a if an upstream has told of it, or zero if that is not
// known, or guessed, or if what came was wrong: a cache may hold it by that digest.
func (f *fetching) told(a *arrival) shard.Digest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.source == nil || a.wrongs > 0 {
		return shard.Digest{}
	}
	return a.shard.Digest
}

// transfer gets the rest of s from u. It returns nil when there is nothing left
// for the caller to bring.
func (f *fetching) transfer(ctx context.Context, s *span, u *upstream, helping bool, buf []byte) error {
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := s.join(u, helping, cancel)
	if t == nil {
		return nil
	}
	f.mu.Lock()
	f.transfers[t] = true
	f.mu.Unlock()
	start := time.Now()
	err := f.receive(asking, t, helping, buf)
	f.transferred(t, time.Since(start))
	gained, over := t.leave()
	switch {
	case errors.As(err, new(local)):
		return err
	case over:
		return nil
	case ctx.Err() == nil && (errors.Is(err, errCrawl) || errors.As(err, new(move))),
		gained >= min(minGain, (t.to-t.from+3)/4) && !errors.As(err, new(refusal)):
		if t.isAlone() && !errors.Is(err, errCrawl) { // another one would have to begin anew
			err = fmt.Errorf("%w, %w", err, move{u})
		}
		return moved{err}
	}
	return err
}

// delivery is how fast a transfer was, in bytes per second.
type delivery struct {
	upstream *upstream
	speed    float64
}

// transferred takes note of how fast t was.
func (f *fetching) transferred(t *transfer, dur time.Duration) {
	bytes := f.tally.of(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.transfers, t)
	if bytes == 0 {
		return
	}
	if t.pace.count < sampled {
		f.rank.Delivered(t.upstream.index, bytes, dur)
	}
	f.ended = append(f.ended, delivery{t.upstream, float64(bytes) / max(dur, minSample).Seconds()})
	f.ended = f.ended[max(0, len(f.ended)-remembered):]
}

// header is what is said beside a request for a shard: how long to wait for bytes
// that are still on their way to the upstream, which is to say so before the silence
// is too long; and, if others wait for us, how far from the origin we are.
func (f *fetching) header(t *transfer) map[string]string {
	patience := min(max(f.opts.Timeout/3, time.Second), maxShardWait)
	header := map[string]string{"Prefer": fmt.Sprintf("wait=%d", int(patience.Seconds()))}
	if f.relay {
		header[tierHeader] = strconv.Itoa(f.tier)
	}
	if f.swarm != nil {
		return f.swarm.header(t, header)
	}
	return header
}

// interrupted is for a relay that breaks off: who sends to it has, or was wrong.
type interrupted struct{ error }

func (e interrupted) Unwrap() error { return e.error }

// maxShardWait is how long an upstream may wait for the first bytes of a shard, or
// for more of them.
const maxShardWait = 10 * time.Second

// receive receives t until its span is over.
func (f *fetching) receive(ctx context.Context, t *transfer, helping bool, buf []byte) error {
	want := disk.Range{From: t.from, To: t.to}
	if want == (disk.Range{To: t.shard.Size}) {
		want = disk.Range{}
	}
	u := t.upstream
	blame := func(err error) error { return wrong(fmt.Errorf("%s: shard %d: %w", u.name, t.shard.Number, err)) }
	r := request{digest: f.told(t.arrival), want: want, header: f.header(t)}
	if u.peer {
		r.timeout, r.hold = peerTimeout, peerFirst
	}
	body, err := f.getShard(ctx, u, f.entry, t.shard.Number, r)
	if err != nil {
		return err
	}
	defer body.Close()
	f.sends(u, 1)
	defer f.sends(u, -1)
	body.bucket, body.step = f.bucket, f.step
	t.relayed = body.header.Get(tierHeader) != ""
	t.place.From(!t.relayed)
	switch {
	case body.size >= 0 && body.size != t.shard.Size:
		return blame(fmt.Errorf("%w: %d bytes instead of %d", shard.ErrSize, body.size, t.shard.Size))
	case body.from < t.from:
		f.Pool.mu.Lock()
		u.rangeless = true
		f.Pool.mu.Unlock()
		if helping {
			return moved{fmt.Errorf("%s: %w", u.name, errRangeless)}
		}
	}
	offset, left := body.from, t.to-body.from
	for left > 0 {
		n, rerr := body.Read(buf[:min(int64(len(buf)), left)])
		if left, err = t.take(offset, buf[:n]); err != nil {
			return local{err}
		}
		offset += int64(n)
		switch {
		case left <= 0:
		case errors.Is(rerr, io.EOF) && body.size < 0 && want == (disk.Range{}):
			return blame(fmt.Errorf("%w: %d bytes instead of %d", shard.ErrSize, offset, t.shard.Size))
		case errors.Is(rerr, errCrawl), errors.As(rerr, new(move)):
			return fmt.Errorf("%s: shard %d: %w", u.name, t.shard.Number, rerr)
		case rerr != nil:
			err := fmt.Errorf("%s: shard %d broke off: %w", u.name, t.shard.Number, rerr)
			if t.relayed && errors.Is(rerr, io.ErrUnexpectedEOF) {
				return interrupted{err}
			}
			return err
		}
	}
	return nil
}
