package offers

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/ballot"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// withdrawnPatience is how long the upstreams have to say whether a version was withdrawn: one
// that hangs holds up no other decision.
const withdrawnPatience = 5 * time.Second

// Withdrawn asks the upstreams for the manifest of v, and reports whether more than half of
// them say that it was withdrawn, not only retired. An upstream that has been down for a
// minute is left out. All addresses of a name that answer have to say the same.
func (o *Offers) Withdrawn(ctx context.Context, v shard.Version) bool {
	return o.authority.withdrawn(ctx, v)
}

// mostSayGone is Withdrawn by the word of the upstreams.
func (o *Offers) mostSayGone(ctx context.Context, v shard.Version) bool {
	ctx, cancel := context.WithTimeout(ctx, withdrawnPatience)
	defer cancel()
	voices, gone := 0, 0
	for _, upstream := range o.opts.Roster.Standings() {
		down := len(upstream.Servers) > 0
		for _, s := range upstream.Servers {
			l := o.listings.of(s)
			down = down && l.failing && time.Since(l.down) > ballot.DownFor
		}
		if down {
			continue
		}
		voices++
		if o.saysGone(ctx, upstream.Servers, v) {
			gone++
		}
	}
	return 2*gone > voices
}

// saysGone reports whether those of servers that answer, and one at least, say that v was
// withdrawn.
func (o *Offers) saysGone(ctx context.Context, servers []*remote.Server, v shard.Version) bool {
	said := make([]error, len(servers))
	var group errgroup.Group
	for i, s := range servers {
		group.Go(func() error {
			body, err := o.opts.Remote.Get(ctx, s, remote.Request{Path: []string{v.String(), shard.ManifestName}})
			if err == nil {
				err = errors.Join(errHas, body.Close())
			}
			said[i] = err
			return nil
		})
	}
	_ = group.Wait()
	gone := 0
	for _, err := range said {
		switch {
		case errors.Is(err, remote.ErrGone):
			gone++
		case !errors.Is(err, remote.ErrUnreachable):
			return false
		}
	}
	return gone > 0
}

// errHas means that a server has the version.
var errHas = errors.New("it has the version")
