package roster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/shardcast/shardcast/internal/remote"
)

const (
	// byName is put before the scheme of a URL whose host is a name of any number of servers.
	byName = "dns+"

	// nameInterval is the time between two looks at the addresses of names in Each.
	nameInterval = 5 * time.Second

	// nameFresh is for how long a look is good for others that want one.
	nameFresh = time.Second

	// theNames is the key of the one flight that looks.
	theNames = "names"
)

// Names are the hosts whose addresses are servers. Its methods may be called from any
// goroutine.
type Names struct {
	opts   Options
	join   func(u *url.URL, name string, number int) *remote.Server
	found  func(before, now []*remote.Server)
	life   context.Context //nolint:containedctx // a look is made for several callers, and outlives each of them
	end    context.CancelFunc
	flight singleflight.Group // the one look
	names  []*name

	mu     sync.Mutex // guards what follows, and the names
	looked time.Time  // last
}

// name is one host. What follows number is guarded by the mu of the names.
type name struct {
	url    *url.URL
	number int // among the upstreams that were configured

	servers []*remote.Server // at the last addresses that were found
	err     error            // why none were found at the last look
}

// IsByName reports whether the host of u is a name of any number of servers.
func IsByName(u *url.URL) bool { return strings.HasPrefix(u.Scheme, byName) }

// newNames returns the names among the upstreams. Join returns the server at an address of a name,
// and found is called when a name has other servers, or news.
func newNames(
	opts Options, join func(*url.URL, string, int) *remote.Server, found func(before, now []*remote.Server),
) *Names {
	n := &Names{opts: opts, join: join, found: found}
	n.life, n.end = context.WithCancel(context.Background())
	for i, u := range opts.Upstreams {
		if IsByName(u) {
			n.names = append(n.names, &name{url: u, number: i})
		}
	}
	return n
}

func (n *Names) close() {
	n.end()
	_, _, _ = n.flight.Do(theNames, func() (any, error) { return nil, nil }) //nolint:nilnil // only to wait
}

// errNotLooked is why a name has no addresses at first.
var errNotLooked = errors.New("its addresses are not known yet")

// Unresolved returns why those names that never had an address have none.
func (n *Names) Unresolved() (errs []error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, host := range n.names {
		switch {
		case host.servers != nil:
		case host.err != nil:
			errs = append(errs, host.err)
		default:
			errs = append(errs, errNotLooked)
		}
	}
	return errs
}

// failure returns why the name with a number had no addresses at the last look, and when
// that was. The error is nil if it had any, or is no name.
func (n *Names) failure(number int) (at time.Time, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, host := range n.names {
		if host.number == number && host.err != nil {
			return n.looked, host.err
		}
	}
	return time.Time{}, nil
}

// have reports whether any name has s.
func (n *Names) have(s *remote.Server) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.names, func(host *name) bool { return slices.Contains(host.servers, s) })
}

// Resolve looks up the addresses of the names, unless that was done within a second. All
// callers share one look.
func (n *Names) Resolve(ctx context.Context) {
	if len(n.names) == 0 {
		return
	}
	done := n.flight.DoChan(theNames, func() (any, error) {
		n.look()
		return nil, nil //nolint:nilnil // only to wait
	})
	select {
	case <-ctx.Done():
	case <-done:
	}
}

func (n *Names) look() {
	n.mu.Lock()
	fresh := time.Since(n.looked) < nameFresh
	n.mu.Unlock()
	if fresh {
		return
	}
	ctx, cancel := context.WithTimeout(n.life, n.opts.Timeout)
	defer cancel()
	var looking sync.WaitGroup
	for _, host := range n.names {
		looking.Go(func() { n.lookUp(ctx, host) })
	}
	looking.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looked = time.Now()
}

// lookUp finds out which servers a host has now.
func (n *Names) lookUp(ctx context.Context, host *name) {
	addresses, err := n.opts.Resolve(ctx, host.url.Hostname())
	if err == nil && len(addresses) == 0 {
		err = errors.New("it has no address")
	}
	if n.life.Err() != nil {
		return
	}
	var now []*remote.Server
	for _, a := range addresses {
		at := *host.url
		at.Scheme = strings.TrimPrefix(host.url.Scheme, byName)
		at.Host = net.JoinHostPort(a.Unmap().String(), remote.Port(host.url))
		if s := n.join(&at, host.url.Hostname(), host.number); !slices.Contains(now, s) {
			now = append(now, s)
		}
	}
	slices.SortFunc(now, func(a, b *remote.Server) int { return strings.Compare(a.Name, b.Name) })
	if before, news := n.note(host, now, err); news {
		n.found(before, now)
	}
}

// note has a host stand for the servers that were found, unless err says that none were. It
// returns those that it had before, and whether there is news.
func (n *Names) note(host *name, now []*remote.Server, err error) (before []*remote.Server, news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, failed := host.servers, host.err
	host.err = nil
	if err != nil {
		host.err = fmt.Errorf("%s: %w: %w", host.url.Redacted(), remote.ErrUnreachable, err)
		if failed == nil {
			n.opts.Logger.Warn("name has no addresses",
				"upstream", host.url.Redacted(), "kept", len(before), "err", err)
		}
		return nil, failed == nil
	}
	if slices.Equal(before, now) {
		return before, false
	}
	host.servers = now
	addresses := make([]string, len(now))
	for i, s := range now {
		addresses[i] = s.Name
	}
	n.opts.Logger.Info("name has other addresses", "upstream", host.url.Redacted(), "addresses", addresses)
	return before, true
}

// rename notes that a name has had servers before, and has others now.
func (r *Roster) rename(before, now []*remote.Server) {
	var others []*remote.Server
	for _, s := range slices.Concat(before, now) {
		m := r.member(s)
		named := !IsByName(r.opts.Upstreams[m.number]) || r.Names.have(s)
		if m.setGone(!named) {
			others = append(others, s)
		}
	}
	r.opts.Changed(others)
	r.joined.Raise()
}

// Each calls do with every server, also with those that join, until ctx ends or the server
// is gone, which ends the context that do is called with. It returns when all calls have.
func (r *Roster) Each(ctx context.Context, do func(ctx context.Context, s *remote.Server)) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var look <-chan time.Time // never, without names
	if len(r.Names.names) > 0 {
		ticker := time.NewTicker(nameInterval)
		defer ticker.Stop()
		look = ticker.C
		group.Go(func() { r.Names.Resolve(ctx) })
	}
	stops := make(map[*remote.Server]context.CancelFunc)
	for {
		changed := r.joined.Wait()
		present := r.Servers()
		for s, stop := range stops {
			if !slices.Contains(present, s) {
				stop()
				delete(stops, s)
			}
		}
		for _, s := range present {
			if stops[s] == nil {
				within, stop := context.WithCancel(ctx)
				stops[s] = stop
				group.Go(func() {
					defer stop()
					do(within, s)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-look:
			group.Go(func() { r.Names.Resolve(ctx) })
		}
	}
}
