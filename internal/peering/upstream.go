package peering

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/wire"
)

// slotPause is the wait for a slot at an upstream, and mostSlotPause bounds its doubling:
// a shard of the usual size takes about as long over a fast link.
const (
	slotPause     = 65 * time.Millisecond
	mostSlotPause = 520 * time.Millisecond
)

// upstreams is when upstreams may be asked for a shard.
type upstreams struct {
	later    time.Time
	slot     backoff.Doubling // while none has a slot
	refused  time.Time        // when none had one, the first time since one had
	attempts int              // that have failed with all upstreams
	received time.Time        // when something came last, as the last of these failed
}

// isRefusing reports whether upstreams have had no slot for as long as plainAfter.
func (u *upstreams) isRefusing(now time.Time) bool {
	return !u.refused.IsZero() && now.Sub(u.refused) >= plainAfter
}

// noteRefused notes that an upstream has no slot.
func (p *Plan) noteRefused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up.refused.IsZero() {
		p.up.refused = time.Now()
	}
}

// fromUpstream brings the rest of a span from an upstream. The error is a dropped if a
// node may have it later, and that of the fetch otherwise.
func (p *Plan) fromUpstream(ctx context.Context, s *transfer.Span, pick swarm.Pick, buf []byte) error {
	servers := p.swarm.opts.Roster
	how := transfer.How{Header: transfer.Header(p.opts.Timeout)}
	how.Header[wire.TierHeader] = strconv.Itoa(p.opts.Tier)
	if pick.As != plain {
		how.Header[wire.SwarmHeader] = pick.As
	}
	var notNow error
	j := p.opts.Want.Job(func(from *remote.Server) error {
		err := p.opts.Transfer.Pull(ctx, s, from, how, buf)
		var later *remote.Busy
		if errors.As(err, &later) && later.Wait == 0 {
			p.noteRefused()
		}
		switch {
		case errors.Is(err, remote.Conflict) && pick.As == swarm.AsFresh:
			p.has(swarm.Upstream, swarm.Change{State: swarm.Sent, From: pick.Shard, To: pick.Shard})
		case errors.As(err, &later) && later.Wait == 0 && servers.Flow.IsAlive(p.start):
			p.putOffUpstreams()
		default:
			return err
		}
		notNow = err
		return nil
	})
	failed, got, err := servers.Attempt(ctx, j)
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case notNow != nil:
		return dropped{notNow}
	case err == nil:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.up.attempts, p.up.later, p.up.refused = 0, time.Time{}, time.Time{}
		p.up.slot.Reset() // what it has sent has freed a slot
		return nil
	case !errors.Is(err, roster.ErrNone):
		return err
	case got:
		return dropped{err}
	case len(failed) > 0:
		return p.failed(ctx, j, failed)
	}
	return p.none(ctx, j)
}

// none is for there being no upstream to be asked now. While neighbours have something it
// counts as a failure of all upstreams, for they may go on.
func (p *Plan) none(ctx context.Context, j roster.Job) error {
	servers := p.swarm.opts.Roster
	busy := servers.Busy(j)
	none := busy.Wait == 0 && !slices.ContainsFunc(servers.Ever(), j.May)
	p.mu.Lock()
	elsewhere := p.picker.Elsewhere()
	p.mu.Unlock()
	switch {
	case none && elsewhere:
		return p.failed(ctx, j, nil)
	case none, !servers.Flow.IsAlive(p.start):
		return j.Failed(busy.Said)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up.later = time.Now().Add(max(busy.Wait, shortly()))
	return dropped{roster.ErrNone}
}

// putOffUpstreams has upstreams not asked for a while, as one has no slot: the longer the
// more often that was so.
func (p *Plan) putOffUpstreams() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up.later = time.Now().Add(p.up.slot.Next())
}

// failed notes that an attempt with all upstreams has failed. As long as anything comes
// from any node it is the first one.
func (p *Plan) failed(ctx context.Context, j roster.Job, errs []error) error {
	servers := p.swarm.opts.Roster
	err := j.Failed(slices.Concat(errs, servers.Busy(j).Said))
	received := servers.Flow.Last(p.start)
	p.mu.Lock()
	if p.up.later.After(time.Now()) {
		p.mu.Unlock()
		return dropped{err} // it is the same one
	}
	if !received.Equal(p.up.received) {
		p.up.received, p.up.attempts = received, 0
	}
	p.up.attempts++
	attempts := p.up.attempts
	p.up.later = time.Now().Add(backoff.Jitter(p.opts.Waits.After(attempts)))
	p.mu.Unlock()
	if attempts >= p.opts.Attempts {
		return err
	}
	j.Again(ctx)
	return dropped{err}
}
