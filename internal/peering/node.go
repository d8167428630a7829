package peering

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// A peer that fails is left alone for peerPause, and each time again twice as long, up to
	// mostPeerPause.
	peerPause     = 5 * time.Second
	mostPeerPause = 80 * time.Second

	// lessForRelays is by how much shorter that is for a peer that breaks off what it was
	// passing on: that need not be its fault, and it may have much else.
	lessForRelays = 32

	// mostInterrupted is how often that is so for a version: one that goes on like that may
	// send wrong bytes, and know it.
	mostInterrupted = 3

	// mostBusy is how often in a row a peer may be busy that has done what it was asked
	// before, until it counts as one that sends nothing.
	mostBusy = 16

	// hearAgain is the wait before a node is asked again for its list of shards, and
	// garbledAgain that for a node whose list cannot be read.
	hearAgain    = time.Second
	garbledAgain = time.Minute

	// A node that lacks the version is asked again after hearSoon, and twice that and so on up to hearAgain: nodes
	// learn of a version within milliseconds of one another. One that goes on to lack it is asked patientFor times,
	// and then less often, down to once in mostHearAgain.
	hearSoon      = 50 * time.Millisecond
	patientFor    = 15
	mostHearAgain = 30 * time.Second
)

// neighbour is a peer that shards of one version are swapped with.
type neighbour struct {
	peer   *peer
	number int                // in the picker
	stop   context.CancelFunc // hearing it

	// What follows changes, under the mu of the plan.
	sound  bool // it has done what it was asked last, unless it was busy
	busy   int  // how often it was in a row
	broken int  // how often it has broken off what it was passing on
	later  time.Time
	pause  backoff.Doubling // after failures
	failed time.Time        // the last time
}

// trials returns how many shards neighbours are asked for that have not done what they
// were asked last. The caller holds mu.
func (p *Plan) trials() (shards int) {
	for _, n := range p.nodes {
		if !n.sound {
			shards += p.picker.Under(n.number)
		}
	}
	return shards
}

// shortly is when a node is asked again whose slots are taken.
func shortly() time.Duration { return time.Duration(30+rand.IntN(70)) * time.Millisecond }

// Listen hears which shards neighbours have, and which ones upstreams have sent, until ctx
// ends.
func (p *Plan) Listen(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Go(func() {
		p.swarm.opts.Roster.Each(ctx, func(ctx context.Context, s *remote.Server) {
			p.hear(ctx, swarm.Upstream, s, nil)
		})
	})
	hearing := make(map[*peer]*neighbour)
	for ready := p.ready; ; ready = nil {
		changed := p.swarm.changed.Wait()
		peers := p.swarm.neighbours()
		for of, n := range hearing {
			if !slices.Contains(peers, of) {
				p.leave(n)
				delete(hearing, of)
			}
		}
		for _, of := range peers {
			if hearing[of] == nil && p.opts.Want.Refused(of.server) == nil {
				within, stop := context.WithCancel(ctx)
				n := p.meet(of, stop)
				hearing[of] = n
				group.Go(func() {
					defer stop()
					p.hear(within, n.number, of.server, of)
				})
			}
		}
		if ready != nil {
			close(ready)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// meet begins to swap shards with a peer. Stop ends the hearing of it.
func (p *Plan) meet(of *peer, stop context.CancelFunc) *neighbour {
	p.opts.Verifier.Each() // peers may want each shard at once
	n := &neighbour{peer: of, stop: stop, pause: backoff.Doubling{First: peerPause, Most: mostPeerPause}}
	p.update(func() {
		n.number = p.met
		p.met++
		p.nodes[n.number] = n
		p.picker.Join(n.number)
	})
	return n
}

// leave ends that.
func (p *Plan) leave(n *neighbour) {
	n.stop()
	p.update(func() {
		delete(p.nodes, n.number)
		p.picker.Leave(n.number)
	})
}

// hear hears which shards a node has, again and again until ctx ends. Peer is nil for an
// upstream.
func (p *Plan) hear(ctx context.Context, number int, s *remote.Server, of *peer) {
	soon := backoff.Doubling{First: hearSoon, Most: hearAgain}
	missed := backoff.Doubling{First: hearAgain, Most: mostHearAgain}
	deaf := func() { p.update(func() { p.picker.Deaf(number) }) }
	for {
		if of != nil && p.swarm.await(ctx, of, deaf) != nil {
			return
		}
		wait := backoff.Jitter(hearAgain)
		err := p.hearOnce(ctx, number, s, of)
		if !isNotNow(err) {
			soon.Reset()
			missed.Reset()
		} else if wait = soon.Next(); soon.Failures() > patientFor {
			wait = missed.Next()
		}
		if err != nil && ctx.Err() == nil {
			if !isNotNow(err) {
				deaf()
			}
			p.opts.Logger.Debug("list of shards unavailable",
				"version", p.opts.Version.String(), "node", s.Name, "err", err)
			if errors.Is(err, swarm.ErrHave) || errors.Is(err, bufio.ErrTooLong) || errors.Is(err, remote.ErrForeign) {
				wait = backoff.Jitter(garbledAgain)
			}
		}
		p.has(number, swarm.Change{State: swarm.Missing, From: 1, To: p.opts.Shards})
		if roster.Sleep(ctx, wait, nil) != nil {
			return
		}
	}
}

// isNotNow reports whether a node has answered that it lacks the version, or is busy.
func isNotNow(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*remote.Busy))
}

// hearOnce hears which shards a node has until its list ends.
func (p *Plan) hearOnce(ctx context.Context, number int, s *remote.Server, of *peer) error {
	start := time.Now()
	var header map[string]string
	if of != nil {
		header = p.swarm.show(of, header)
	}
	body, err := p.swarm.opts.Remote.Get(ctx, s, remote.Request{
		Path: p.opts.path(), Digest: p.opts.Digest, Header: header,
		Timeout: wire.HaveSilence, Trickles: true,
	})
	if of != nil && ctx.Err() == nil {
		failed := err
		if isNotNow(err) {
			failed = nil
		}
		p.swarm.tried(of, start, failed)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, swarm.MaxLine(p.opts.Shards))
	pause := max(wire.HavePause, wire.HavePauseShard*time.Duration(p.opts.Shards))
	var last time.Time
	for ; lines.Scan(); last = time.Now() {
		if early := pause - time.Since(last); early > 0 { // which a node that lists them as it should is not
			if err := roster.Sleep(ctx, early, nil); err != nil {
				return err
			}
		}
		changes, err := swarm.ParseLine(lines.Text(), p.opts.Shards)
		if err != nil {
			return err
		}
		p.has(number, changes...)
	}
	return lines.Err()
}

// has notes which shards a node has.
func (p *Plan) has(number int, changes ...swarm.Change) {
	if len(changes) == 0 {
		return
	}
	p.update(func() {
		for _, c := range changes {
			p.picker.Note(number, c)
		}
	})
}

// fromPeer brings the rest of a span from a neighbour. The error is a dropped if another
// node may have it.
func (p *Plan) fromPeer(ctx context.Context, s *transfer.Span, pick swarm.Pick, n *neighbour, buf []byte) error {
	if err := p.opts.Want.Refused(n.peer.server); err != nil {
		return dropped{err} // since it was picked, or with another plan of the version
	}
	start := time.Now()
	p.swarm.change(func() { n.peer.transfers++ })
	err := p.opts.Transfer.Pull(ctx, s, n.peer.server, transfer.How{
		// A peer is as far from the origin as this node, so no tier is stated.
		Header: p.swarm.show(n.peer, map[string]string{
			"Prefer": wire.PreferWait(wire.PeerWait), wire.SwarmHeader: pick.As,
		}),
		Timeout: wire.PeerSilence, Hold: wire.PeerFirst,
	}, buf)
	p.swarm.change(func() { n.peer.transfers--; n.peer.err = err })
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case roster.Is(err, roster.Stop):
		return err
	}
	var later *remote.Busy
	busySoon := errors.As(err, &later) && time.Since(start) < wire.SlotAnswer // as is a peer with much to give
	p.mu.Lock()
	switch {
	case err == nil:
		n.sound, n.busy = true, 0
		n.pause.Reset()
	case busySoon:
		n.busy++
		n.sound = n.sound && n.busy < mostBusy
	default:
		n.sound = false
	}
	p.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case busySoon:
		p.putOff(n, max(later.Wait, shortly()))
	case errors.Is(err, fs.ErrNotExist):
		p.has(n.number, swarm.Change{State: swarm.Missing, From: pick.Shard, To: pick.Shard})
		p.putOff(n, shortly()) // it may list it again at once
	case roster.Is(err, roster.Never):
		p.opts.Want.Refuse(ctx, n.peer.server, err)
	default:
		p.opts.Logger.Debug("peer failed", "version", p.opts.Version.String(), "peer", n.peer.server.Name, "err", err)
		wait := p.failedAt(n, start)
		if errors.Is(err, transfer.ErrInterrupted) && p.isLenient(n) {
			wait /= lessForRelays
		}
		p.putOff(n, wait)
	}
	return dropped{err}
}

// failedAt notes that n has failed with a request that began at start, and returns how long
// to leave it alone. Requests that began before its last failure fail with that.
func (p *Plan) failedAt(n *neighbour, start time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if start.Before(n.failed) {
		return 0
	}
	n.failed = time.Now()
	return n.pause.Next()
}

// isLenient counts that n has broken off what it was passing on, and reports whether that may
// be no fault of its own.
func (p *Plan) isLenient(n *neighbour) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.broken++
	return n.broken <= mostInterrupted
}

// putOff has n not asked for a while.
func (p *Plan) putOff(n *neighbour, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if later := time.Now().Add(wait); later.After(n.later) {
		n.later = later
	}
}

// hopeless returns the slowest pull from a neighbour when for five seconds all that comes
// was far less than what one pull from upstream used to bring, and upstream may be asked.
func (p *Plan) hopeless(pulls []transfer.Pull) (slowest transfer.Pull, ok bool) {
	p.mu.Lock()
	down := p.up.attempts > 0 || p.up.later.After(time.Now())
	p.mu.Unlock()
	usual, upstreams := 0.0, p.swarm.opts.Roster
	for _, s := range upstreams.Servers() {
		usual = max(usual, upstreams.Throughput(s))
	}
	if down || p.opts.Tally.Speed() >= rank.Crawl*usual {
		return slowest, false
	}
	for _, o := range pulls {
		if !o.Given && !upstreams.Has(o.Server) && o.Ticks >= rank.Recent && (!ok || o.Speed < slowest.Speed) {
			slowest, ok = o, true
		}
	}
	return slowest, ok
}

// lagging returns the pull from a neighbour that takes longest, if it holds up the end: all
// shards have begun to come, and the rest of it would come in less than half the time from
// others, and half a second, as they send.
func (p *Plan) lagging(pulls []transfer.Pull) (longest transfer.Pull, ok bool) {
	p.mu.Lock()
	begun := !p.picker.Wanting()
	p.mu.Unlock()
	if !begun {
		return longest, false
	}
	for _, o := range pulls {
		if o.Given || p.swarm.opts.Roster.Has(o.Server) || o.Ticks < transfer.KnownAfter || len(o.Others) == 0 {
			continue
		}
		elsewhere := o.Left * max(o.Speed, 1) / max(rank.Median(o.Others), 1)
		if o.Left >= transfer.HelpAfter.Seconds()+2*elsewhere && o.Left > longest.Left {
			longest, ok = o, true
		}
	}
	return longest, ok
}
