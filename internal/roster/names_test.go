package roster_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
)

// dns has the addresses of one host.
type dns struct {
	mu        sync.Mutex // guards what follows
	addresses []string
	err       error
	asked     int
}

func (d *dns) resolve(context.Context, string) (found []netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	for _, a := range d.addresses {
		found = append(found, netip.MustParseAddr(a))
	}
	return found, d.err
}

func (d *dns) set(err error, addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses, d.err = addresses, err
}

func (d *dns) lookUps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func TestTheAddressesOfANameAreServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dns
		var others []string
		r := rosterOf(t, roster.Options{
			Resolve: d.resolve, Changed: func(servers []*remote.Server) { others = names(servers) },
		}, "http://192.0.2.1:8000", "dns+http://servers.example:8000/base")
		look := func() {
			time.Sleep(2 * time.Second) // a look is fresh for one
			others = nil
			r.Names.Resolve(t.Context())
		}
		require.Len(t, r.Names.Unresolved(), 1, "before the first look")
		look()
		require.Len(t, r.Names.Unresolved(), 1)
		require.ErrorIs(t, r.Names.Unresolved()[0], remote.ErrUnreachable)
		assert.Empty(t, others)
		d.set(nil, "192.0.2.2", "192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3", "2001:db8::1")
		look()
		assert.Empty(t, r.Names.Unresolved())
		all := []string{
			"http://192.0.2.1:8000", "http://192.0.2.2:8000/base", "http://192.0.2.1:8000/base",
			"http://192.0.2.3:8000/base", "http://[2001:db8::1]:8000/base",
		}
		assert.Equal(t, all, names(r.Servers()))
		before := r.Servers()
		for i, number := range []int{0, 1, 1, 1, 1} {
			assert.Equal(t, number, r.Number(before[i]))
		}

		d.set(nil, "192.0.2.3", "192.0.2.2")
		look()
		assert.Equal(t, []string{all[2], all[4]}, others, "those that have gone")
		assert.Equal(t, []string{all[0], all[1], all[3]}, names(r.Servers()))
		assert.Equal(t, all, names(r.Ever()))
		assert.False(t, r.Has(before[4]))
		look()
		assert.Nil(t, others, "no news")
		d.set(errors.New("the name server is down"))
		look()
		assert.Equal(t, []string{all[0], all[1], all[3]}, names(r.Servers()), "the last ones stay")
		assert.Empty(t, r.Names.Unresolved(), "it had addresses")
		d.set(nil)
		look()
		assert.Equal(t, []string{all[0], all[1], all[3]}, names(r.Servers()), "none is like an error")
		d.set(nil, "192.0.2.2", "2001:db8::1")
		look()
		assert.Equal(t, before[4], r.Servers()[2], "a server that is back is the same")
		assert.ElementsMatch(t, []string{all[3], all[4]}, others)
	})
}

func TestAnUpstreamOfItsOwnStaysWhenANameLosesItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dns{addresses: []string{"192.0.2.1", "192.0.2.2"}}
		r := rosterOf(t, roster.Options{Resolve: d.resolve}, "http://192.0.2.1", "dns+http://servers.example")
		r.Names.Resolve(t.Context())
		time.Sleep(2 * time.Second)
		d.set(nil, "192.0.2.2")
		r.Names.Resolve(t.Context())
		assert.True(t, r.Has(r.Ever()[0]))
	})
}

func TestAServerOfTwoNamesStaysWhileOneHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := dns{addresses: []string{"192.0.2.1"}}, dns{addresses: []string{"192.0.2.1"}}
		r := rosterOf(t, roster.Options{Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			if host == "one" {
				return one.resolve(ctx, host)
			}
			return two.resolve(ctx, host)
		}}, "dns+http://one", "dns+http://two")
		r.Names.Resolve(t.Context())
		require.Len(t, r.Servers(), 1)
		time.Sleep(2 * time.Second)
		one.set(nil, "192.0.2.9")
		r.Names.Resolve(t.Context())
		assert.ElementsMatch(t, []string{"http://192.0.2.1:80", "http://192.0.2.9:80"}, names(r.Servers()))
		time.Sleep(2 * time.Second)
		two.set(nil, "192.0.2.9")
		r.Names.Resolve(t.Context())
		assert.Equal(t, []string{"http://192.0.2.9:80"}, names(r.Servers()))
	})
}

func TestOneLookAtNamesIsForAllCallersWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dns{addresses: []string{"192.0.2.1"}}
		r := rosterOf(t, roster.Options{Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			time.Sleep(100 * time.Millisecond)
			return d.resolve(ctx, host)
		}}, "dns+http://servers.example")
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() { r.Names.Resolve(t.Context()) })
		}
		group.Wait()
		time.Sleep(999 * time.Millisecond)
		r.Names.Resolve(t.Context())
		assert.Equal(t, 1, d.lookUps())
		time.Sleep(time.Millisecond)
		r.Names.Resolve(t.Context())
		assert.Equal(t, 2, d.lookUps())
	})
}

func TestALookAtNamesHoldsNoCallerThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := rosterOf(t, roster.Options{Timeout: time.Minute, Resolve: hangs}, "dns+http://servers.example")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		r.Names.Resolve(ctx)
		assert.Equal(t, time.Second, time.Since(start))
		r.Names.Resolve(t.Context())
		assert.Equal(t, time.Minute, time.Since(start), "the look is bounded by the time-out")
	})
}

func TestEachFollowsTheAddressesOfANameUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dns{addresses: []string{"192.0.2.1"}}
		r := rosterOf(t, roster.Options{Resolve: d.resolve}, "http://first", "dns+http://servers.example:1")
		var mu sync.Mutex
		var at []string
		present := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Sorted(slices.Values(at))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Each(ctx, func(ctx context.Context, s *remote.Server) {
				mu.Lock()
				at = append(at, s.Name)
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				at = slices.DeleteFunc(at, func(name string) bool { return name == s.Name })
			})
		}()
		assert.Equal(t, []string{"http://192.0.2.1:1", "http://first"}, present())
		d.set(nil, "192.0.2.2")
		time.Sleep(5 * time.Second)
		assert.Equal(t, []string{"http://192.0.2.2:1", "http://first"}, present(), "looked up again after 5 s")
		d.set(nil, "192.0.2.1")
		time.Sleep(5 * time.Second)
		assert.Equal(t, []string{"http://192.0.2.1:1", "http://first"}, present(), "a server that is back")
		cancel()
		<-ended
		assert.Empty(t, present(), "Each waits for its calls")
	})
}

func TestTheStandingOfANameIsThatOfItsBestServer(t *testing.T) {
	d := dns{addresses: []string{"192.0.2.1", "192.0.2.2"}}
	r := rosterOf(t, roster.Options{Resolve: d.resolve}, "dns+http://servers.example", "http://user:secret@other")
	assert.Equal(t, roster.Failing, r.Standings()[0].State, "no address is known")
	r.Names.Resolve(t.Context())
	servers := r.Standings()[0].Servers
	require.Len(t, servers, 2)
	r.Answered(servers[0], errors.New("no route"))
	r.Blame(servers[0], errors.New("wrong bytes"))
	r.Delivered(servers[1], 1000, time.Second)
	s := r.Standings()
	assert.Equal(t, roster.Idle, s[0].State)
	assert.InDelta(t, 1000, s[0].Throughput, 0)
	assert.InDelta(t, 1, s[0].Success, 1e-9)
	assert.True(t, s[0].Settled)
	require.ErrorContains(t, s[0].Err, "wrong bytes")
	assert.Equal(t, "http://user:xxxxx@other", s[1].URL)
	assert.False(t, s[1].Settled)
	r.Answered(servers[1], errors.New("no route either"))
	assert.Equal(t, roster.Failing, r.Standings()[0].State)
}
