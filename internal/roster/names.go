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

	"github.com/shardcast/shardcast/internal/remote"
)

const (
	// ByName is the scheme of a URL whose host is a name of any number of servers.
	ByName = "dns+http"

	// nameInterval is the time between two looks at the addresses of names in Each.
	nameInterval = 5 * time.Second

	// nameFresh is for how long a look is good for others that want one.
	nameFresh = time.Second

	// theNames is the key of the one flight that looks.
	theNames = "names"
)

// name is a host whose addresses are servers. What follows number changes, under the
// roster's mu.
type name struct {
	url    *url.URL
	number int // among the upstreams that were configured

	servers []*remote.Server // at the last addresses that were found
	err     error            // why none were found at the last look
}

// errNotLooked is why a name has no addresses at first.
var errNotLooked = errors.New("its addresses are not known yet")

// Unresolved returns why those names that never had an address have none.
func (r *Roster) Unresolved() (errs []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		switch {
		case n.servers != nil:
		case n.err != nil:
			errs = append(errs, n.err)
		default:
			errs = append(errs, errNotLooked)
		}
	}
	return errs
}

// Resolve looks up the addresses of the names, unless that was done within a second. All
// callers share one look.
func (r *Roster) Resolve(ctx context.Context) {
	if len(r.names) == 0 {
		return
	}
	done := r.flight.DoChan(theNames, func() (any, error) {
		r.look()
		return nil, nil //nolint:nilnil // only to wait
	})
	select {
	case <-ctx.Done():
	case <-done:
	}
}

func (r *Roster) look() {
	r.mu.Lock()
	fresh := time.Since(r.looked) < nameFresh
	r.mu.Unlock()
	if fresh {
		return
	}
	ctx, cancel := context.WithTimeout(r.life, r.opts.Timeout)
	defer cancel()
	var looking sync.WaitGroup
	for _, n := range r.names {
		looking.Go(func() { r.lookUp(ctx, n) })
	}
	looking.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Now()
}

// lookUp finds out which servers n has now.
func (r *Roster) lookUp(ctx context.Context, n *name) {
	addresses, err := r.opts.Resolve(ctx, n.url.Hostname())
	if err == nil && len(addresses) == 0 {
		err = errors.New("it has no address")
	}
	if r.life.Err() != nil {
		return
	}
	var found []*remote.Server
	for _, a := range addresses {
		at := *n.url
		at.Scheme = "http"
		at.Host = net.JoinHostPort(a.Unmap().String(), remote.Port(n.url))
		if s := r.join(&at, n.number); !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *remote.Server) int { return strings.Compare(a.Name, b.Name) })
	others, changed := r.rename(n, found, err)
	if changed {
		r.opts.Changed(others)
		r.joined.Raise()
	}
}

// rename has n stand for the servers that were found, unless err says that none were. It
// returns the servers that have come or gone, and whether there is news of n.
func (r *Roster) rename(n *name, found []*remote.Server, err error) (others []*remote.Server, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, failed := n.servers, n.err
	n.err = nil
	if err != nil {
		n.err = fmt.Errorf("%s: %w: %w", n.url.Redacted(), remote.ErrUnreachable, err)
		if failed == nil {
			r.opts.Logger.Warn("name has no addresses", "upstream", n.url.Redacted(), "kept", len(before), "err", err)
		}
		return nil, failed == nil
	}
	if slices.Equal(before, found) {
		return nil, false
	}
	n.servers = found
	names := make([]string, len(found))
	for i, s := range found {
		names[i] = s.Name
	}
	r.opts.Logger.Info("name has other addresses", "upstream", n.url.Redacted(), "addresses", names)
	for _, m := range r.members {
		if !slices.Contains(before, m.server) && !slices.Contains(found, m.server) {
			continue
		}
		named := r.opts.Upstreams[m.number].Scheme != ByName ||
			slices.ContainsFunc(r.names, func(n *name) bool { return slices.Contains(n.servers, m.server) })
		if m.gone == named {
			m.gone = !named
			others = append(others, m.server)
		}
	}
	return others, true
}

// Each calls do with every server, also with those that join, until ctx ends or the server
// is gone, which ends the context that do is called with. It returns when all calls have.
func (r *Roster) Each(ctx context.Context, do func(ctx context.Context, s *remote.Server)) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var look <-chan time.Time // never, without names
	if len(r.names) > 0 {
		ticker := time.NewTicker(nameInterval)
		defer ticker.Stop()
		look = ticker.C
		group.Go(func() { r.Resolve(ctx) })
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
			group.Go(func() { r.Resolve(ctx) })
		}
	}
}
