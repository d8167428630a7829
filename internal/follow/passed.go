package follow

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// ErrNewer means that a version was left out, because a newer one came first.
var ErrNewer = errors.New("a newer version came first")

// passed knows which versions counted since the last delivery, so that those that are left out
// without a fetch can be told.
type passed struct {
	tell func(distfile.Entry, error) // or nil

	base shard.Version                    // versions up to this one are delivered, told, or from before the start
	seen map[shard.Version]distfile.Entry // the zero entry is told already
}

// start begins behind the version last, or after none with the version from, or else the newest of
// offers.
func (p *passed) start(last, from shard.Version, offers []distfile.Entry) {
	p.base, p.seen = last, make(map[shard.Version]distfile.Entry)
	if last == 0 {
		p.base = offers[len(offers)-1].Version - 1
		if from > 0 {
			p.base = min(p.base, from-1)
		}
	}
}

// startOver begins again before the first version.
func (p *passed) startOver() {
	p.base = 0
	clear(p.seen)
}

// see notes versions that count.
func (p *passed) see(offers []distfile.Entry) {
	if p.tell == nil || p.seen == nil {
		return
	}
	for _, e := range offers {
		if _, known := p.seen[e.Version]; !known && e.Version > p.base && len(p.seen) < distfile.MaxEntries {
			p.seen[e.Version] = e
		}
	}
}

// failed notes that e was told already.
func (p *passed) failed(e distfile.Entry) {
	if p.seen != nil {
		p.seen[e.Version] = distfile.Entry{}
	}
}

// delivered tells which versions before e never come, since none before the last one does; offers
// are those that count now.
func (p *passed) delivered(e distfile.Entry, offers []distfile.Entry) {
	if e.Version <= p.base {
		return
	}
	for _, v := range slices.Sorted(maps.Keys(p.seen)) {
		if v > e.Version {
			break
		}
		left := p.seen[v]
		delete(p.seen, v)
		switch {
		case v == e.Version || left == (distfile.Entry{}):
		case slices.ContainsFunc(offers, left.Same):
			p.tell(left, ErrNewer)
		default:
			p.tell(left, fmt.Errorf("%w: it was retired before its turn", fetch.ErrNoVersion))
		}
	}
	p.base = e.Version
}
