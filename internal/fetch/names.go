package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// byName is the scheme of a URL whose host is a name for any number of servers.
	byName = "dns+http"

	// nameInterval is between two looks at which addresses a name has, while somebody
	// follows.
	nameInterval = 5 * time.Second

	// nameFresh is for how long what was found is good for others who want to know.
	nameFresh = time.Second
)

// resolver finds the addresses of a host.
type resolver func(ctx context.Context, host string) ([]netip.Addr, error)

// resolve asks the system's resolver.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// serverName is a name whose addresses are upstreams.
type serverName struct {
	url    *url.URL
	number int // among the upstreams that were configured

	// What follows changes, under the pool's mu.
	addresses []*upstream // the last that were found
	err       error       // why none were when it was last looked
}

// all returns the upstreams in order. It may be called with mu held. Those whose name
// has lost them are among them, and offer nothing.
func (p *Pool) all() []*upstream {
	p.joining.RLock()
	defer p.joining.RUnlock()
	return p.upstreams
}

// join returns the upstream at u, which is another one if it is none yet: then it is
// there by what was configured as number.
func (p *Pool) join(u *url.URL, number int) *upstream {
	p.joining.Lock()
	defer p.joining.Unlock()
	name := u.Redacted()
	for _, known := range p.upstreams {
		if known.name == name && !known.peer {
			return known
		}
	}
	joined := &upstream{url: u, index: len(p.upstreams), number: number, name: name}
	p.rank.grow(len(p.upstreams) + 1)
	p.upstreams = append(slices.Clone(p.upstreams), joined) // who has the old ones keeps them
	return joined
}

// resolveNames finds out which addresses the names have now, unless somebody has just
// done so. It is done once for all who want to know.
func (p *Pool) resolveNames(ctx context.Context) {
	if len(p.names) == 0 {
		return
	}
	// A name is none of an upstream.
	done := p.asking.DoChan("names", func() (any, error) {
		p.mu.Lock()
		fresh := time.Since(p.resolved) < nameFresh
		p.mu.Unlock()
		if fresh {
			return nil, nil //nolint:nilnil // only to wait
		}
		ctx, cancel := context.WithTimeout(p.life, p.opts.Timeout)
		defer cancel()
		var looking sync.WaitGroup
		for _, n := range p.names {
			looking.Go(func() { p.resolveName(ctx, n) })
		}
		looking.Wait()
		p.mu.Lock()
		p.resolved = time.Now()
		p.mu.Unlock()
		return nil, nil //nolint:nilnil // only to wait
	})
	select {
	case <-ctx.Done():
	case <-done:
	}
}

// resolveName finds out which addresses n has now. What it had stays while none are
// found: servers that are not ready are missed in the DNS before they are gone.
func (p *Pool) resolveName(ctx context.Context, n *serverName) {
	addresses, err := p.resolve(ctx, n.url.Hostname())
	if err == nil && len(addresses) == 0 {
		err = errors.New("it has no address")
	}
	if p.life.Err() != nil {
		return
	}
	var found []*upstream
	for _, a := range addresses {
		at := *n.url
		at.Scheme = "http"
		at.Host = net.JoinHostPort(a.Unmap().String(), portOf(n.url))
		if u := p.join(&at, n.number); !slices.Contains(found, u) {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b *upstream) int { return strings.Compare(a.name, b.name) })
	p.mu.Lock()
	defer p.mu.Unlock()
	before, failed := n.addresses, n.err
	n.err = nil
	if err != nil {
		n.err = fmt.Errorf("%s: %w: %w", n.url.Redacted(), ErrUnreachable, err)
		if failed == nil {
			p.opts.Logger.Warn("name has no addresses", "upstream", n.url.Redacted(), "kept", len(before), "err", err)
			p.tell()
		}
		return
	}
	if slices.Equal(before, found) {
		return
	}
	n.addresses = found
	p.opts.Logger.Info("name has other addresses", "upstream", n.url.Redacted(), "addresses", names(found))
	for _, u := range slices.Concat(before, found) {
		u.setGone(!p.named(u))
	}
	close(p.joined)
	p.joined = make(chan struct{})
	p.tell()
}

// portOf returns the port of a URL that is read like one of http, or https.
func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// named reports whether the user or a name has u, for holders of the pool's mu.
func (p *Pool) named(u *upstream) bool {
	return u.fixed || slices.ContainsFunc(p.names, func(n *serverName) bool { return slices.Contains(n.addresses, u) })
}

// setGone notes that the upstream is none any more, or is one again, for holders of
// the pool's mu. What is under way from it may go on.
func (u *upstream) setGone(gone bool) {
	if u.gone == gone {
		return
	}
	u.gone = gone
	u.offered, u.etag = nil, ""
	u.heard, u.misses, u.failing, u.askLater = false, 0, false, time.Time{}
	u.changed = time.Now()
}

// present returns the upstreams that are not gone, and what is closed when they are
// others.
func (p *Pool) present() (present []*upstream, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.all() {
		if !u.gone {
			present = append(present, u)
		}
	}
	return present, p.joined
}

// errNotLooked is why a name has no addresses at first.
var errNotLooked = errors.New("its addresses are not known yet")

// unresolved returns why those names that never had an address have none, for holders
// of the pool's mu.
func (p *Pool) unresolved() (errs []error) {
	for _, n := range p.names {
		if n.addresses == nil {
			errs = append(errs, cmp.Or(n.err, errNotLooked))
		}
	}
	return errs
}

// each calls do with every upstream, those included that come, until ctx ends, which is
// what do is called with, or until the upstream is none any more. It returns when all
// that it has begun has ended.
func (p *Pool) each(ctx context.Context, do func(ctx context.Context, u *upstream)) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var look <-chan time.Time // never, without names
	if len(p.names) > 0 {
		ticker := time.NewTicker(nameInterval)
		defer ticker.Stop()
		look = ticker.C
		group.Go(func() { p.resolveNames(ctx) })
	}
	stops := make(map[*upstream]context.CancelFunc)
	for {
		present, changed := p.present()
		for u, stop := range stops {
			if !slices.Contains(present, u) {
				stop()
				delete(stops, u)
			}
		}
		for _, u := range present {
			if stops[u] == nil {
				within, stop := context.WithCancel(ctx)
				stops[u] = stop
				group.Go(func() {
					defer stop()
					do(within, u)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-look:
			group.Go(func() { p.resolveNames(ctx) })
		}
	}
}
