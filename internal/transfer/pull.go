package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// minGain in bytes is what a pull must have brought for its failure not to count, or a
// quarter of what it was asked for.
const minGain = 64 << 10

// endWait is how long the end of an answer without a length is waited for, once all of the
// shard has come: it is sent with the last bytes, if at all.
const endWait = time.Second

// ErrSlow gives up a pull that is far slower than it might be.
var ErrSlow = errors.New("far slower than usual")

// errRangeless is for a server that sends all where a part would have helped.
var errRangeless = errors.New("does not know ranges")

// errShort is for a server that sends less at once than it was asked for.
var errShort = errors.New("sends a smaller range")

// ErrInterrupted is for a relay that breaks off: its own upstream has, or was wrong.
var ErrInterrupted = errors.New("the relay breaks off")

// move gives up a pull for another server to go on.
type move struct{ to *remote.Server }

// Error names the server.
func (m move) Error() string { return "continued by " + m.to.Name }

// pull is one request for the rest of a span.
type pull struct {
	span     *Span
	server   *remote.Server
	from, to int64 // what is asked for
	cancel   context.CancelCauseFunc
	relayed  bool         // see [verify.Sender]
	used     int64        // that its span got by it; guarded by the arrival's mu
	received atomic.Int64 // bytes

	// What follows is guarded by the mu of the pulls.
	ticked int64 // received at the last tick
	pace   rank.Pace
	given  bool // up
}

// How says how a shard is requested.
type How struct {
	// Race allows the span to be one that another worker brings.
	Race bool

	// Header is sent beside the request.
	Header map[string]string

	// Timeout bounds silences, and Hold is how much longer the first may take. Zero means
	// those of the client.
	Timeout, Hold time.Duration
}

// Pull gets the rest of s from a server. It returns nil when nothing is left for the
// caller to bring, and otherwise errors for [roster.Job.Do].
func (t *Transfer) Pull(ctx context.Context, s *Span, from *remote.Server, how How, buf []byte) error {
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p, dropped := s.join(from, how.Race, cancel)
	if p == nil {
		return nil
	}
	if dropped > 0 {
		t.opts.Tally.wrong(0, dropped)
		t.audience.Forget(s.arrival.Number())
	}
	t.mu.Lock()
	t.servers[from.Name] = from
	t.mu.Unlock()
	t.pulls.add(p)
	start := time.Now()
	err := t.receive(asking, p, how, buf)
	t.pulls.remove(p, time.Since(start), t.opts.Roster)
	gained, over := s.leave(p)
	to := move{}
	isMove, isSlow := errors.As(err, &to), errors.Is(err, ErrSlow)
	switch {
	case roster.Is(err, roster.Stop):
		return err
	case over:
		return nil
	case ctx.Err() == nil && (isSlow || isMove):
		err = &roster.Setback{Err: err, What: roster.Spared, Next: to.to}
	case gained >= min(minGain, (p.to-p.from+3)/4) && !roster.Is(err, roster.Never):
		if !roster.Is(err, roster.Spared) {
			err = &roster.Setback{Err: err, What: roster.Moved}
		}
	default:
		return err
	}
	var setback *roster.Setback
	if errors.As(err, &setback) && s.arrival.isAlone() && !isSlow {
		setback.Next = from // another server would have to begin anew
	}
	return err
}

// digest returns that of a shard if a server has stated it, or zero if that is not known,
// or if the bytes that came were wrong: a cache may hold them by that digest.
func (t *Transfer) digest(a *Arrival) shard.Digest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.opts.Pinned || a.check.Wrongs() > 0 {
		return shard.Digest{}
	}
	return a.check.Shard.Digest
}

// receive receives p until its span is over.
func (t *Transfer) receive(ctx context.Context, p *pull, how How, buf []byte) error {
	a, number := p.span.arrival, p.span.arrival.Number()
	size := a.check.Shard.Size
	wrong := func(err error) error { return roster.Wrong(fmt.Errorf("%s: shard %d: %w", p.server.Name, number, err)) }
	want := disk.Range{From: p.from, To: p.to}
	if want == (disk.Range{To: size}) {
		want = disk.Range{}
	}
	body, err := t.opts.Get(ctx, p.server, number, remote.Request{
		Digest: t.digest(a), Want: want, Size: size, Header: maps.Clone(how.Header),
		Timeout: how.Timeout, Hold: how.Hold, Limited: true,
	})
	switch {
	case errors.Is(err, remote.Unsatisfiable):
		return wrong(fmt.Errorf("%w: it has fewer bytes", shard.ErrSize))
	case errors.Is(err, fs.ErrNotExist) && t.opts.Patient:
		// Servers of the Python package list a version before they have it.
		return &roster.Setback{Err: err, What: roster.Later}
	case errors.Is(err, remote.ErrForeign):
		return roster.Wrong(err)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	defer t.opts.Roster.Sends(p.server)()
	p.relayed = body.Header.Get(wire.TierHeader) != ""
	t.audience.From(number, !p.relayed)
	if body.Size >= 0 && body.Size != size {
		return wrong(fmt.Errorf("%w: %d bytes instead of %d", shard.ErrSize, body.Size, size))
	}
	if body.From < p.from && how.Race {
		return &roster.Setback{Err: fmt.Errorf("%s: %w", p.server.Name, errRangeless), What: roster.Spared}
	}
	offset, err := t.copy(p, body, buf)
	switch {
	case err == nil && !body.Bounded && (offset == size || offset == body.To):
		defer time.AfterFunc(endWait, func() { p.cancel(errOver) }).Stop()
		if n, _ := body.Read(buf[:1]); n > 0 {
			t.opts.Blame(ctx, p.server, wrong(fmt.Errorf("%w: more than %d bytes", shard.ErrSize, offset-body.From)))
		}
		return nil
	case err == nil, roster.Is(err, roster.Stop):
		return err
	case errors.Is(err, io.EOF) && body.To > 0 && offset == body.To:
		// The rest is requested next: servers may answer with less (RFC 9110, section 15.3.7).
		err = fmt.Errorf("%s: shard %d: %w", p.server.Name, number, errShort)
		return &roster.Setback{Err: err, What: roster.Spared}
	case errors.Is(err, io.EOF) && body.Size < 0 && want == disk.Range{}:
		return wrong(fmt.Errorf("%w: %d bytes instead of %d", shard.ErrSize, offset, size))
	case errors.Is(err, ErrSlow), errors.As(err, new(move)):
		return fmt.Errorf("%s: shard %d: %w", p.server.Name, number, err)
	}
	err = fmt.Errorf("%s: shard %d broke off: %w", p.server.Name, number, err)
	if p.relayed && errors.Is(err, io.ErrUnexpectedEOF) {
		return remote.Matching(err, ErrInterrupted)
	}
	return err
}

// copy takes what a body brings, until its span is over, and returns the offset that it
// has come to.
func (t *Transfer) copy(p *pull, body *remote.Body, buf []byte) (offset int64, err error) {
	offset = body.From
	for left := p.to - offset; left > 0; {
		n, rerr := body.Read(buf[:min(int64(len(buf)), left)])
		var used int64
		if left, used, err = p.span.take(p, offset, buf[:n]); err != nil {
			return offset, &roster.Setback{Err: err, What: roster.Stop}
		}
		p.received.Add(int64(n))
		t.opts.Tally.took(p.server, int64(n), used)
		offset += int64(n)
		if left > 0 && rerr != nil {
			return offset, rerr
		}
	}
	return offset, nil
}

// pulls are those that are under way, and the last ones that have ended.
type pulls struct {
	mu    sync.Mutex // guards what follows
	under map[*pull]bool
	ended []delivery // the newest last
}

// delivery is how fast a pull was, in bytes per second.
type delivery struct {
	server *remote.Server
	speed  float64
}

const (
	// sampled is the number of ticks that make a sample for the ranking.
	sampled = 4

	// remembered is how many pulls that have ended are compared with.
	remembered = 8

	// maxCrawls bounds the doublings of the patience with a slow span.
	maxCrawls = 5
)

func (ps *pulls) add(p *pull) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.under[p] = true
}

// remove notes that p has ended, and how fast it was.
func (ps *pulls) remove(p *pull, dur time.Duration, r *roster.Roster) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.under, p)
	bytes := p.received.Load()
	if bytes == 0 {
		return
	}
	if p.pace.Count() < sampled {
		r.Delivered(p.server, bytes, dur)
	}
	ps.ended = append(ps.ended, delivery{p.server, rank.Speed(bytes, dur)})
	ps.ended = ps.ended[max(0, len(ps.ended)-remembered):]
}

// tick makes what has come since the last one part of the paces.
func (ps *pulls) tick(r *roster.Roster) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for p := range ps.under {
		received := p.received.Load()
		p.pace.Add(received - p.ticked)
		p.ticked = received
		if p.pace.Count()%sampled == 0 {
			r.Delivered(p.server, p.pace.Last(sampled), sampled*rank.Tick)
		}
	}
}

// A Pull is a request that is under way, as a plan sees it.
type Pull struct {
	Server *remote.Server

	// Given says that it was given up, and Silent that nothing has come by it yet.
	Given, Silent bool

	// Ticks is how often its pace was updated, and Speed is that of the last five seconds in
	// bytes per second.
	Ticks int
	Speed float64

	// Left is how many seconds it still takes at that speed.
	Left float64

	// Others are the speeds that it is compared with: those of pulls from other servers, for
	// it may be its own that is slow, and if there are none of all.
	Others []float64

	pull *pull
}

// Pulls returns those that are under way.
func (t *Transfer) Pulls() []Pull {
	ps := &t.pulls
	ps.mu.Lock()
	defer ps.mu.Unlock()
	pulls := make([]Pull, 0, len(ps.under))
	deliveries := slices.Clone(ps.ended)
	of := make([]*pull, len(deliveries), len(deliveries)+len(ps.under)) // nil for those that have ended
	for p := range ps.under {
		if p.pace.Count() >= sampled {
			deliveries = append(deliveries, delivery{p.server, p.pace.Speed()})
			of = append(of, p)
		}
	}
	for p := range ps.under {
		view := Pull{
			Server: p.server, Given: p.given, Silent: p.received.Load() == 0,
			Ticks: p.pace.Count(), Speed: p.pace.Speed(), pull: p,
		}
		view.Left = float64(p.span.left()) / max(view.Speed, 1)
		var all []float64
		for i, d := range deliveries {
			switch {
			case of[i] == p:
			case d.server != p.server:
				view.Others = append(view.Others, d.speed)
			default:
				all = append(all, d.speed)
			}
		}
		if view.Others == nil {
			view.Others = all
		}
		pulls = append(pulls, view)
	}
	return pulls
}

// GiveUp ends a pull, for its span to be continued by another one. The error is [ErrSlow],
// or names the server that goes on.
func (t *Transfer) GiveUp(p Pull, why error) {
	t.pulls.mu.Lock()
	p.pull.given = true
	t.pulls.mu.Unlock()
	p.pull.cancel(why)
}

// crawls reports whether a pull is too slow, with the patience that its span is due.
func (t *Transfer) crawls(p Pull) bool {
	a := p.pull.span.arrival
	t.pulls.mu.Lock()
	defer t.pulls.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !p.pull.pace.Crawls(p.Others, rank.Recent<<min(p.pull.span.crawls, maxCrawls)) {
		return false
	}
	p.pull.span.crawls++
	return true
}
