package peering

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
)

// mostDoubled is how often the wait for upstreams without a slot is doubled.
const mostDoubled = 3

// upstreams is when upstreams may be asked for a shard.
type upstreams struct {
	later    time.Time
	sentAway int       // how often in a row one had no slot
	attempts int       // that have failed with all upstreams
	received time.Time // when something came last, as the last of these failed
}

// fromUpstream brings the rest of a span from an upstream. The error is a dropped if a
// node may have it later, and that of the fetch otherwise.
func (p *Plan) fromUpstream(ctx context.Context, s *transfer.Span, pick swarm.Pick, buf []byte) error {
	servers := p.swarm.opts.Roster
	var notNow error
	j := p.opts.Want.Job(func(from *remote.Server) error {
		err := p.opts.Transfer.Pull(ctx, s, from, transfer.How{Header: p.header(pick.As, false)}, buf)
		var later *remote.Busy
		switch {
		case errors.Is(err, remote.Conflict) && pick.As == swarm.AsFresh:
			p.has(swarm.Upstream, swarm.Change{State: swarm.Sent, From: pick.Shard, To: pick.Shard})
		case errors.As(err, &later) && later.Wait == 0 && servers.Patient(p.start):
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
		p.up.attempts, p.up.sentAway, p.up.later = 0, 0, time.Time{} // what it has sent has freed a slot
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
	wait, _ := servers.Wait(j)
	none := wait == 0 && !slices.ContainsFunc(servers.Ever(), j.May)
	p.mu.Lock()
	elsewhere := p.picker.Elsewhere()
	p.mu.Unlock()
	switch {
	case none && elsewhere:
		return p.failed(ctx, j, nil)
	case none, !servers.Patient(p.start):
		return j.Failed(servers.Refusals(j))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up.later = time.Now().Add(max(wait, shortly()))
	return dropped{roster.ErrNone}
}

// putOffUpstreams has upstreams not asked for a while, as one has no slot: the longer the
// more often that was so.
func (p *Plan) putOffUpstreams() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up.later = time.Now().Add(shortly() << min(p.up.sentAway, mostDoubled))
	p.up.sentAway++
}

// failed notes that an attempt with all upstreams has failed. As long as anything comes
// from any node it is the first one.
func (p *Plan) failed(ctx context.Context, j roster.Job, errs []error) error {
	servers := p.swarm.opts.Roster
	err := j.Failed(slices.Concat(errs, servers.Refusals(j)))
	received := servers.Received(p.start)
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
	p.up.later = time.Now().Add(backoff.Jitter(servers.Pause(attempts)))
	p.mu.Unlock()
	if attempts >= p.opts.Attempts {
		return err
	}
	j.Again(ctx)
	return dropped{err}
}
