package middle

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

const (
	// mostAsked bounds the versions that the upstreams are asked about at once.
	mostAsked = 16

	// askedFor is how long an answer of the upstreams about a version that is not here stands
	// for readers. It is shorter than the pause of a follower that asks again.
	askedFor = 5 * time.Second

	// askPatience is how long a reader waits for it: less than the reader waits for this answer.
	askPatience = 2 * time.Second
)

// withdraw takes the versions away that most upstreams say were withdrawn: it asks about the
// newest of those that are here and do not count any more.
func (f *follower) withdraw(ctx context.Context) error {
	v, err := f.view()
	if err != nil || !v.complete {
		return nil //nolint:nilerr // the update that follows reports it
	}
	doubtful := v.vanished()
	doubtful = doubtful[:min(len(doubtful), mostAsked)]
	withdrawn := make([]bool, len(doubtful))
	var group errgroup.Group // at the same time, so that an upstream that hangs is awaited once
	for i, number := range doubtful {
		group.Go(func() error {
			withdrawn[i] = f.pool.Withdrawn(ctx, number)
			return nil
		})
	}
	_ = group.Wait()
	var failed []error
	for i, number := range doubtful {
		if !withdrawn[i] {
			continue
		}
		for _, e := range v.arriving {
			if e.Version == number {
				f.arrivals.end(e, errNotListed)
			}
		}
		err := f.dir.change(ctx, func(w *store.Writer) error { return w.Withdraw(number) })
		if err == nil {
			f.board.Unlist(number)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// questions are those of readers whether a version that is not here was withdrawn: of a middle
// that never had it, too, they learn that from the publisher. The zero value has none.
type questions struct {
	mu    sync.Mutex // guards asked
	asked map[shard.Version]*question
}

// question is whether a version was withdrawn.
type question struct {
	at        time.Time
	answered  chan struct{} // closed when withdrawn is set
	withdrawn bool
}

// answer returns the answer of ask about v, which is asked once for all readers, for a while.
// It asks about few versions at a time, whatever the readers ask for: the answer is no then.
func (q *questions) answer(ctx context.Context, v shard.Version, ask func(context.Context) bool) bool {
	a, own := q.about(v, time.Now())
	if a == nil {
		return false
	}
	if own {
		// The reader that came first may leave; others still want the answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askPatience)
		defer cancel()
		a.withdrawn = ask(ctx)
		close(a.answered)
	}
	select {
	case <-a.answered:
		return a.withdrawn
	case <-ctx.Done():
		return false
	}
}

// about returns the question about v, whether it is the caller's to ask, and nil if too many
// others were asked lately.
func (q *questions) about(v shard.Version, now time.Time) (a *question, own bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for other, a := range q.asked {
		if now.Sub(a.at) > askedFor {
			delete(q.asked, other)
		}
	}
	if a, ok := q.asked[v]; ok || len(q.asked) >= mostAsked {
		return a, false
	}
	if q.asked == nil {
		q.asked = make(map[shard.Version]*question)
	}
	a = &question{at: now, answered: make(chan struct{})}
	q.asked[v] = a
	return a, true
}

// isWithdrawn asks the upstreams whether v, which is not here, was withdrawn.
func (m *Middle) isWithdrawn(ctx context.Context, v shard.Version) bool {
	return m.questions.answer(ctx, v, func(ctx context.Context) bool { return m.pool.Withdrawn(ctx, v) })
}
