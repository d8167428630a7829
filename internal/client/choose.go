package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
)

// What becomes of a version that was not to be had.
const (
	// rounds is how many times all its attempts are made before it is passed over, and
	// roundPause the time between the first two, doubled from then on.
	rounds     = 3
	roundPause = 5 * time.Second

	// onceMore is when it is tried again afterwards, if nothing newer has come.
	onceMore = 5 * time.Minute
)

// setback is why a version is not taken now.
type setback struct {
	err    error
	rounds int       // that failed
	until  time.Time // when it may be tried again; zero is never
	aside  bool      // the next one is taken meanwhile
}

// next returns the version to take now, or nothing and for how long there is none
// unless there is news.
func (r *following) next(ctx context.Context) (e distfile.Entry, wait time.Duration, err error) {
	offers := r.pool.Offers()
	if len(offers) == 0 {
		return distfile.Entry{}, forever, nil
	}
	if !r.heard {
		// The others may have more than the one that answered first.
		if !r.pool.Heard() && r.pool.Refresh(ctx, fetch.Soon) != nil {
			return distfile.Entry{}, pollEvery, nil
		}
		r.heard, offers = true, r.pool.Offers()
		if r.From != 0 {
			r.backlog = offers[len(offers)-1].Version
		}
	}
	if err := r.restarted(ctx, offers); err != nil {
		return distfile.Entry{}, 0, err
	}
	r.offers = offers
	for e := range r.setbacks {
		if !slices.ContainsFunc(offers, e.Same) {
			delete(r.setbacks, e)
		}
	}
	wait = forever
	for _, e := range r.order(offers) {
		s := r.setbacks[e]
		left := time.Until(s.until)
		switch {
		case s.err == nil || !s.until.IsZero() && left <= 0:
			return e, 0, nil
		case !s.until.IsZero():
			wait = min(wait, left)
		}
		if !s.aside {
			break
		}
	}
	return distfile.Entry{}, wait, nil
}

// order returns those of offers that are to be taken, in this order.
func (r *following) order(offers []distfile.Entry) []distfile.Entry {
	first := r.Last + 1
	if r.Last == 0 && !r.Over {
		first = max(first, r.From)
	}
	split := 0 // before it they come in order
	var order []distfile.Entry
	for _, e := range offers {
		if e.Version < first || r.holds(e) {
			continue
		}
		order = append(order, e)
		if r.All || e.Version <= r.backlog {
			split = len(order)
		}
	}
	slices.Reverse(order[split:])
	return order
}

// restarted finds out whether an origin has started over: what is on offer has numbers
// up to the last one, and is something else than it was. Servers that lag behind offer
// the same as before.
func (r *following) restarted(ctx context.Context, offers []distfile.Entry) error {
	if r.Last == 0 {
		return nil
	}
	is := func(e distfile.Entry) (known, same bool) {
		for _, k := range r.Known {
			if k.Version == e.Version {
				known, same = true, same || k.Digest == e.Digest
			}
		}
		return known, same
	}
	another := func(e distfile.Entry) bool {
		known, same := is(e)
		return e.Version <= r.Last && known && !same
	}
	newest := offers[len(offers)-1]
	known, _ := is(newest)
	unknown := newest.Version <= r.Last && !known
	// Who is not heard yet may have what is missing.
	if !unknown && !slices.ContainsFunc(offers, another) || !r.pool.Heard() {
		return nil
	}
	r.Client.logger.Warn("origin has started over", "last", r.Last.String(), "newest", newest.Version.String())
	r.backlog = 0
	return r.patiently(ctx, func() error { return r.startOver(offers) })
}

// failed takes note that e was not to be had because of err, and passes it over if
// that is for good.
func (r *following) failed(e distfile.Entry, err error) error {
	logger := r.Client.logger.With("version", e.Version.String())
	s := r.setbacks[e]
	s.err, s.aside, s.until = err, false, time.Now().Add(roundPause)
	switch {
	case disk.IsFull(err):
		r.noRoom(err)
		s.until = time.Now().Add(fullPause)
	case errors.Is(err, fetch.ErrUnreachable):
		logger.Warn("version waits for a server", "err", err)
	case errors.Is(err, fetch.ErrIntegrity), errors.Is(err, errForeign):
		s.until, s.aside = time.Time{}, true
	case errors.Is(err, fetch.ErrNoVersion):
		s.aside = true
	default:
		s.rounds++
		if s.aside = s.rounds >= rounds; s.aside {
			s.until = time.Now().Add(onceMore)
		} else {
			s.until = time.Now().Add(roundPause << (s.rounds - 1))
			logger.Warn("version is tried again", "dur", time.Until(s.until).Round(time.Second), "err", err)
		}
	}
	r.setbacks[e] = s
	if !s.aside {
		return nil
	}
	r.abandon()
	r.tidy()
	if !r.yield(Followed{Entry: e}, err) {
		return errEnd
	}
	return nil
}
