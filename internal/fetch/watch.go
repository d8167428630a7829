package fetch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
)

const (
	// sampled is the number of ticks that make a sample for the ranking.
	sampled = 4

	// askAgain is the time between two questions to upstreams that are down, or do not
	// offer what is fetched.
	askAgain = 10 * time.Second

	// askLacking is when the latter are asked for the first time, and each time after
	// twice as long, up to askAgain: they may be about to have it.
	askLacking = time.Second

	// spreadAfter is the number of ticks after which a transfer may be moved to an
	// upstream that is idle, if it takes as long again.
	spreadAfter = 8

	// maxCrawls bounds the doublings of the patience with a slow span.
	maxCrawls = 5
)

// watch looks at all transfers every tick: it measures them, gives up those that
// are too slow, and wakes idle workers to help.
func (f *fetching) watch(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	lacking := askLacking
	for count := 1; ; count++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		f.measure()
		since := time.Duration(count) * tick
		all, early := since%askAgain == 0, since == lacking && lacking < askAgain
		if early {
			lacking *= 2
		}
		if all || early {
			for _, u := range f.without(all) {
				asking.Go(func() { _ = f.refresh(ctx, u) }) // it has logged what was wrong
			}
		}
	}
}

// without returns the upstreams that do not offer what is fetched, as far as is known: if
// down is set also those that did not say what they offer when they were asked last.
func (f *fetching) without(down bool) (without []*upstream) {
	f.Pool.mu.Lock()
	defer f.Pool.mu.Unlock()
	is := func(e distfile.Entry) bool { return e.Version == f.entry.Version }
	for _, u := range f.all() {
		if !u.gone && (u.failing && down || !u.failing && !slices.ContainsFunc(u.offered, is)) {
			without = append(without, u)
		}
	}
	return without
}

// measure is one tick.
func (f *fetching) measure() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tally.tick(f.transfers)
	for t := range f.transfers {
		if t.pace.count%sampled == 0 {
			f.rank.Delivered(t.upstream.index, t.pace.last(sampled), sampled*tick)
		}
		if t.given {
			continue
		}
		if f.swarm != nil {
			continue
		}
		if err := f.tooSlow(t); err != nil {
			t.giveUp(err)
		}
	}
	if f.swarm == nil {
		f.spread()
	} else if t := cmp.Or(f.swarm.hopeless(), f.swarm.lagging()); t != nil { // for being slow alone none is: all links are full
		t.giveUp(errCrawl)
	}
	f.wake()
}

// giveUp ends t for its span to be continued elsewhere.
func (t *transfer) giveUp(why error) {
	t.given = true
	t.cancel(why)
}

// spread has an upstream that is idle continue a transfer of one that has several:
// of all workers none may be left to ask it. The caller holds mu.
func (f *fetching) spread() {
	idle := f.idle()
	if f.resting > 0 || len(idle) == 0 {
		return
	}
	var longest *transfer
	for t := range f.transfers {
		if !t.given && t.pace.count >= spreadAfter && f.shares(t.upstream) && t.left() >= spreadAfter*tick.Seconds() &&
			(longest == nil || t.left() > longest.left()) {
			longest = t
		}
	}
	if longest == nil {
		return
	}
	q := f.quest()
	for _, u := range idle {
		if f.mayAsk(q, u) && !f.rangeless(u) && !longest.isAlone() {
			longest.giveUp(move{u})
			return
		}
	}
}

// shares reports whether several transfers from u are under way. The caller holds
// mu.
func (f *fetching) shares(u *upstream) bool {
	count := 0
	for t := range f.transfers {
		if t.upstream == u {
			count++
		}
	}
	return count > 1
}

// tooSlow says why t is to be given up, if it is. The caller holds mu.
func (f *fetching) tooSlow(t *transfer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.pace.crawls(f.peers(t), recent<<min(t.crawls, maxCrawls)) {
		return nil
	}
	t.crawls++
	return fmt.Errorf("%w: %.0f bytes a second", errCrawl, t.pace.speed())
}

// peers returns the speeds that t is compared with: those of other upstreams'
// transfers, for it may be its own that is slow, and if there are none of all. The
// caller holds mu.
func (f *fetching) peers(t *transfer) []float64 {
	deliveries := slices.Clone(f.ended)
	for peer := range f.transfers {
		if peer != t && peer.pace.count >= sampled {
			deliveries = append(deliveries, delivery{peer.upstream, peer.pace.speed()})
		}
	}
	var others, all []float64
	for _, d := range deliveries {
		all = append(all, d.speed)
		if d.upstream != t.upstream {
			others = append(others, d.speed)
		}
	}
	if others == nil {
		return all
	}
	return others
}
