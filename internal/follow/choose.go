package follow

import (
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// forever is a wait that only news ends.
const forever = time.Duration(math.MaxInt64)

const (
	// rounds is how many times a version may fail in all attempts of a download before it is
	// passed over.
	rounds = 3

	// firstPause is the wait after the first of these rounds. It is longer than the waits
	// between the attempts of a download, and short beside the minutes between two versions.
	firstPause = 5 * time.Second

	// onceMore is the wait until a version that was passed over is tried again.
	onceMore = 5 * time.Minute

	// slowPause is the wait until a version that brought next to nothing is tried again.
	slowPause = 5 * time.Minute

	// mostSlow is how many versions are put aside as slow, before the slowness is taken for the
	// network's.
	mostSlow = 3

	// fullPause is the time between two looks for room on a full disk.
	fullPause = 2 * time.Second
)

// choice decides which version to take next, from the record and the offers, which are those
// that count, see package offers. It asks no server, reads no clock, and touches no file.
type choice struct {
	// elsewhere reports whether a server that answers lists a version, and none of others.
	elsewhere func(e distfile.Entry, others ...distfile.Entry) bool

	descent  *descent      // decides, if it is not nil
	from     shard.Version // no earlier version comes before the first delivery; or 0
	all      bool          // versions come in order
	backlog  shard.Version // versions up to this one come in order
	setbacks map[distfile.Entry]setback
	patient  distfile.Entry // it comes however slow it is, as others are no faster; or zero
}

// setback is why a version is not taken now.
type setback struct {
	reason   reason
	doubling backoff.Doubling // of the waits between rounds
	until    time.Time        // when the version may be tried again; zero is never
}

// reason is the kind of a setback.
type reason int

const (
	noRoom     reason = iota // the disk is full
	noServer                 // no server answers
	slow                     // it brings next to nothing
	tryAgain                 // a round of attempts failed
	passedOver               // the next version is taken meanwhile
)

func newChoice(
	from shard.Version, all bool, elsewhere func(e distfile.Entry, others ...distfile.Entry) bool,
) *choice {
	return &choice{elsewhere: elsewhere, from: from, all: all, setbacks: make(map[distfile.Entry]setback)}
}

// start is called once, with the offers of the first choice, which are ascending as everywhere
// here, and not empty.
func (c *choice) start(offers []distfile.Entry) {
	if c.from != 0 {
		c.backlog = offers[len(offers)-1].Version
	}
}

// startOver is called when numbers have begun again.
func (c *choice) startOver() { c.backlog = 0 }

// next returns the version to take now, or the zero entry and how long there is none unless
// the offers change. It forgets setbacks of versions that are not on offer any more.
func (c *choice) next(r *record.Record, offers []distfile.Entry, now time.Time) (distfile.Entry, time.Duration) {
	for e := range c.setbacks {
		if !slices.ContainsFunc(offers, e.Same) {
			delete(c.setbacks, e)
		}
	}
	order, inOrder := c.order(r, offers)
	if inOrder == 0 {
		if e, ok := c.beside(order); ok {
			return e, 0
		}
	}
	wait := forever
	for _, e := range order {
		s, ok := c.setbacks[e]
		left := s.until.Sub(now)
		switch {
		case !ok, !s.until.IsZero() && left <= 0:
			return e, 0
		case !s.until.IsZero():
			wait = min(wait, left)
		}
		if s.reason != passedOver && s.reason != slow {
			break
		}
	}
	return distfile.Entry{}, wait
}

// beside returns the first version of order without a setback that a server lists which lists
// none of those that their servers do not deliver: they hold up no version of another server.
func (c *choice) beside(order []distfile.Entry) (distfile.Entry, bool) {
	var trouble []distfile.Entry
	for _, e := range order {
		if s, ok := c.setbacks[e]; ok && s.reason != noRoom && s.reason != passedOver {
			trouble = append(trouble, e)
		}
	}
	if trouble == nil {
		return distfile.Entry{}, false
	}
	i := slices.IndexFunc(order, func(e distfile.Entry) bool {
		_, failed := c.setbacks[e]
		return !failed && c.elsewhere(e, trouble...)
	})
	if i < 0 {
		return distfile.Entry{}, false
	}
	return order[i], true
}

// stalled is called while e brings next to nothing. It returns errSlow if another version
// shall be tried, errNotFaster if enough others were no faster, so that the newest of them is
// to come after all, and nil if e goes on.
func (c *choice) stalled(r *record.Record, e distfile.Entry, offers []distfile.Entry) error {
	if e == c.patient {
		return nil
	}
	order, inOrder := c.order(r, offers)
	var others []distfile.Entry // which a version that comes in order is lost for only if it can be had
	if slices.Contains(order[:inOrder], e) {
		others = append(others, e)
	}
	another := slices.ContainsFunc(order, func(o distfile.Entry) bool {
		_, failed := c.setbacks[o]
		return o != e && !failed && c.elsewhere(o, others...)
	})
	newest, tried := e, 0
	for o, s := range c.setbacks {
		if s.reason != slow {
			continue
		}
		if tried++; o.Version > newest.Version {
			newest = o
		}
	}
	switch {
	case another && tried < mostSlow:
		return errSlow
	case newest == e:
		return nil
	}
	maps.DeleteFunc(c.setbacks, func(_ distfile.Entry, s setback) bool { return s.reason == slow })
	c.patient = newest
	return errNotFaster
}

// order returns the offers that are to be taken, the next one first: those that come in order
// from the oldest to the newest, of which it returns the number, and then the others from the
// newest to the oldest.
func (c *choice) order(r *record.Record, offers []distfile.Entry) (order []distfile.Entry, inOrder int) {
	if c.descent != nil {
		order = c.descent.plan(r, offers).order
		return order, len(order)
	}
	first := r.Last + 1
	if r.Last == 0 && !r.Over {
		first = max(first, c.from)
	}
	for _, e := range offers {
		if e.Version < first || r.Holds(e) || r.IsWithdrawn(e) {
			continue
		}
		order = append(order, e)
		if c.all || e.Version <= c.backlog {
			inOrder = len(order)
		}
	}
	slices.Reverse(order[inOrder:])
	return order, inOrder
}

// isStale reports whether offers have a newer version than e that would be taken now. A
// version that comes in order is never stale.
func (c *choice) isStale(e distfile.Entry, offers []distfile.Entry) bool {
	return e.Version > c.backlog && slices.ContainsFunc(offers, func(o distfile.Entry) bool {
		s, failed := c.setbacks[o]
		return o.Version > e.Version && (!failed || s.reason != passedOver && s.reason != slow)
	})
}

// fetched forgets the setbacks of e.
func (c *choice) fetched(e distfile.Entry) {
	delete(c.setbacks, e)
	c.patient = distfile.Entry{}
}

// answered forgets the setbacks for want of a server: one may be back.
func (c *choice) answered() {
	for e, s := range c.setbacks {
		if s.reason == noServer {
			delete(c.setbacks, e)
		}
	}
}

// failed notes that e was not fetched because of err, and returns its setback.
func (c *choice) failed(e distfile.Entry, err error, now time.Time) setback {
	s, ok := c.setbacks[e]
	if !ok {
		s.doubling = backoff.Doubling{First: firstPause, Most: onceMore}
	}
	switch {
	case disk.IsFull(err):
		s.reason, s.until = noRoom, now.Add(fullPause)
	case errors.Is(err, errSlow):
		s.reason, s.until = slow, now.Add(slowPause)
	case errors.Is(err, fetch.ErrUnreachable):
		s.reason, s.until = noServer, now.Add(firstPause)
	case errors.Is(err, fetch.ErrIntegrity), errors.Is(err, fetch.ErrTooLarge), errors.Is(err, errForeign),
		errors.Is(err, errClash), errors.Is(err, ErrLabel):
		s.reason, s.until = passedOver, time.Time{}
	case errors.Is(err, fetch.ErrNoVersion):
		s.reason, s.until = passedOver, now.Add(firstPause)
	default:
		s.reason, s.until = tryAgain, now.Add(s.doubling.Next())
		if s.doubling.Failures() >= rounds {
			s.reason, s.until = passedOver, now.Add(onceMore)
		}
	}
	if c.descent != nil && s.until.IsZero() {
		s.until = now.Add(onceMore) // others need it
	}
	c.setbacks[e] = s
	return s
}

// restarted reports whether the origin has started over: a version up to the last delivered
// one is on offer that never was, by its digest or as the newest by its number. Servers that
// lag behind offer the same versions as before.
func restarted(r *record.Record, offers []distfile.Entry) bool {
	if r.Last == 0 {
		return false
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
	return newest.Version <= r.Last && !known || slices.ContainsFunc(offers, another)
}
