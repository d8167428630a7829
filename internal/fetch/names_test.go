package fetch_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

// zone is a DNS that knows the addresses of one host.
type zone struct {
	mu        sync.Mutex // guards the fields below
	addresses []netip.Addr
	asked     int
}

// set gives the host addresses, or none.
func (z *zone) set(addresses ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addresses = nil
	for _, a := range addresses {
		z.addresses = append(z.addresses, netip.MustParseAddr(a))
	}
}

func (z *zone) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if host != "servers.test" || z.addresses == nil {
		return nil, errors.New("no such host")
	}
	return z.addresses, nil
}

// named returns a pool of the servers at the addresses of servers.test.
func (n *network) named(t *testing.T, z *zone, log *logbook) *fetch.Pool {
	t.Helper()
	u, err := fetch.ParseAddress("dns+http://servers.test", 8000)
	require.NoError(t, err)
	n.resolve = z.resolve
	return n.client(t, fetch.Options{Upstreams: []*url.URL{u}, Logger: log.logger(), Timeout: time.Minute}, 0)
}

func TestFollowKeepsUpWithTheAddressesOfAName(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		one, two := n.board("10.0.0.1", true), n.board("10.0.0.2", true)
		two.offer(2)
		z, log := new(zone), new(logbook)
		pool := n.named(t, z, log)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			pool.Follow(ctx, interval, func() {})
		}()

		n.at(time.Minute)
		assert.False(t, pool.Heard(), "no server is known")
		assert.Len(t, log.with("name has no addresses"), 1)

		z.set("10.0.0.1")
		n.at(2 * time.Minute)
		assert.True(t, pool.Heard())
		assert.Len(t, pool.Offers(), 1)
		assert.Equal(t, 1, one.held())

		z.set("::ffff:10.0.0.2", "10.0.0.1")
		n.at(2*time.Minute + 6*time.Second)
		assert.Len(t, pool.Offers(), 2, "a new address is asked at once")

		z.set("10.0.0.1")
		n.at(3 * time.Minute)
		assert.Len(t, pool.Offers(), 1, "the offers of a removed address do not count")
		assert.Zero(t, two.held())
		asked := len(two.questions(0))

		z.set()
		n.at(10 * time.Minute)
		assert.Len(t, pool.Offers(), 1, "without any address the last ones stay")
		assert.Len(t, two.questions(0), asked)
		assert.True(t, pool.Heard())

		z.set("10.0.0.2")
		n.at(11 * time.Minute)
		assert.Len(t, pool.Offers(), 2, "an address may come again")
		assert.Zero(t, one.held())
		assert.Len(t, log.with("name has no addresses"), 2)
		stop()
		<-ended
	})
}

func TestANameIsFetchedFrom(t *testing.T) {
	simulate(t, publish(t, 5*megabyte, megabyte), func(t *testing.T, n *network) {
		n.host("10.0.0.1", megabyte)
		n.host("10.0.0.2", megabyte)
		z := new(zone)
		pool := n.named(t, z, new(logbook))
		err := pool.Refresh(t.Context(), fetch.Soon)
		require.ErrorIs(t, err, fetch.ErrUnreachable)
		require.ErrorContains(t, err, "dns+http://servers.test")
		require.ErrorContains(t, err, "no such host")

		z.set("10.0.0.1")
		time.Sleep(2 * time.Second)
		require.NoError(t, pool.Refresh(t.Context(), fetch.Soon))
		z.set("10.0.0.1", "10.0.0.2")
		time.Sleep(2 * time.Second)
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
		sink := new(memory)
		_, end, err := pool.Fetch(t.Context(), fetch.Task{
			Entry:    pool.Offers()[0],
			Open:     func(context.Context, fetch.Manifest) (fetch.Sink, error) { return sink, nil },
			Progress: func(fetch.Progress) {},
		})
		require.NoError(t, err)
		n.checkResult(t, sink, end)
		require.Len(t, end.Upstreams, 2)
		for _, u := range end.Upstreams {
			assert.Positive(t, u.Received, u.URL)
		}
	})
}

func TestANameIsLookedUpOnceForAllCallers(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		n.board("10.0.0.1", true)
		z := new(zone)
		z.set("10.0.0.1")
		pool := n.named(t, z, new(logbook))
		var asking sync.WaitGroup
		for range 10 {
			asking.Go(func() { assert.NoError(t, pool.Refresh(t.Context(), fetch.Soon)) })
		}
		asking.Wait()
		assert.Equal(t, 1, z.asked)
	})
}
