package remote

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/trip"
)

// network has hosts at addresses: the time after which one connects, or refuses.
type network map[string]struct {
	after   time.Duration
	refuses bool
}

var errRefused = errors.New("connection refused")

// connect connects to an address. One that is not in the network never answers.
func (n network) connect(ctx context.Context, _, address string) (net.Conn, error) {
	host, ok := n[address]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(host.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if host.refuses {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	return tested{ours, theirs, address}, nil
}

// tested is a connection that says where it leads.
type tested struct {
	net.Conn

	other   net.Conn
	address string
}

func (c tested) Close() error { return errors.Join(c.Conn.Close(), c.other.Close()) }

// dialerOf returns a dialer in n that finds the addresses for any name.
func dialerOf(n network, addresses ...string) *dialer {
	d := newDialer(30 * time.Second)
	d.connect = n.connect
	d.lookUp = func(context.Context, string, string) (found []netip.Addr, err error) {
		for _, a := range addresses {
			found = append(found, netip.MustParseAddr(a))
		}
		return found, nil
	}
	return d
}

func TestConnectionsAreOpenedAheadToAServerThatIsFar(t *testing.T) {
	const away, at = 100 * time.Millisecond, "10.0.0.1:80"
	for name, tc := range map[string]struct {
		after    time.Duration // to connect
		expected int
		took     []time.Duration // by each further connection
	}{
		"two":              {away, 2, []time.Duration{away, 0, away}},
		"none is expected": {away, 0, []time.Duration{away, away}},
		"it is near":       {trip.Long - 1, 2, []time.Duration{trip.Long - 1, trip.Long - 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dialerOf(network{at: {after: tc.after}})
				defer d.close()
				d.expect(tc.expected)
				for i, want := range append([]time.Duration{tc.after}, tc.took...) {
					start := time.Now()
					conn, err := d.dial(t.Context(), "tcp", at)
					require.NoError(t, err)
					defer func() { _ = conn.Close() }()
					assert.Equal(t, want, time.Since(start), i)
				}
				assert.Equal(t, tc.after >= trip.Long, d.isFar())
			})
		})
	}
}

func TestAServerIsNotFarBecauseItsNameOrTheProcessorIsSlow(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	d := newDialer(time.Minute)
	defer d.close()
	d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
		time.Sleep(trip.Long)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	conn, err := d.dial(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, says := trip.Least(conn)
	assert.Equal(t, !says, d.isFar())
	d.noteTrip(nil, trip.Long)
	assert.Equal(t, !says, d.isFar(), "one of its connections was near")
}

// closes is a connection that notes its end.
type closes struct {
	net.Conn

	n *atomic.Int32
}

func (c closes) Close() error {
	c.n.Add(1)
	return c.Conn.Close()
}

func TestConnectionsThatWereOpenedAheadAreClosed(t *testing.T) {
	const at = "10.0.0.1:80"
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int32
		begin := func() *dialer {
			closed.Store(0)
			n := network{at: {after: trip.Long}}
			d := dialerOf(n)
			d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := n.connect(ctx, network, address)
				return closes{conn, &closed}, err
			}
			d.expect(3)
			conn, err := d.dial(t.Context(), "tcp", at)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			return d
		}
		take := func(d *dialer) {
			conn, err := d.dial(t.Context(), "tcp", at)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		}
		d := begin()
		take(d)
		time.Sleep(spareFor)
		synctest.Wait()
		assert.EqualValues(t, 4, closed.Load(), "no request has come for two")
		start := time.Now()
		take(d)
		assert.Equal(t, trip.Long, time.Since(start))
		d.close()
		d = begin()
		take(d)
		synctest.Wait()
		d.close()
		assert.EqualValues(t, 4, closed.Load(), "the client is closed")
		d = begin()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := d.dial(gone, "tcp", at)
		require.Error(t, err)
		time.Sleep(spareFor)
		synctest.Wait()
		assert.EqualValues(t, 4, closed.Load(), "one that was asked for in vain is not lost")
		d.close()
	})
}

func TestANameIsReachedAtAnyOfItsAddresses(t *testing.T) {
	type host = struct {
		after   time.Duration
		refuses bool
	}
	const a, b, c = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
	for name, tc := range map[string]struct {
		n    network
		at   string
		took time.Duration
	}{
		"the first":                 {network{a: {}, b: {}, c: {}}, a, 0},
		"the first is slow":         {network{a: {after: 200 * time.Millisecond}, b: {}}, a, 200 * time.Millisecond},
		"the first does not answer": {network{b: {}, c: {}}, b, stagger},
		"two do not answer":         {network{c: {}}, c, 2 * stagger},
		"the first refuses":         {network{a: {refuses: true}, b: {}, c: {}}, b, 0},
		"the first refuses late":    {network{a: host{after: time.Second, refuses: true}, c: {}}, c, 2 * stagger},
		"a later one is faster": {
			network{a: {after: 10 * time.Second}, b: {after: 10 * time.Second}, c: {after: time.Second}},
			c, 2*stagger + time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				conn, err := dialerOf(tc.n, "10.0.0.1", "10.0.0.2", "10.0.0.3").dial(t.Context(), "tcp", "name:80")
				require.NoError(t, err)
				defer func() { _ = conn.Close() }()
				assert.Equal(t, tc.at, conn.(tested).address)
				assert.Equal(t, tc.took, time.Since(start))
			})
		})
	}
}

func TestANameThatNoneOfItsAddressesAnswersFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := dialerOf(network{}, "10.0.0.1", "10.0.0.2").dial(t.Context(), "tcp", "name:80")
		require.ErrorContains(t, err, "no connection within 30s")
		assert.Equal(t, 30*time.Second, time.Since(start))

		start = time.Now()
		refusing := network{"10.0.0.1:80": {refuses: true}, "10.0.0.2:80": {refuses: true}}
		_, err = dialerOf(refusing, "10.0.0.1", "10.0.0.2").dial(t.Context(), "tcp", "name:80")
		require.ErrorIs(t, err, errRefused)
		assert.Zero(t, time.Since(start))

		_, err = dialerOf(network{}).dial(t.Context(), "tcp", "name:80")
		require.EqualError(t, err, "name has no address")

		enough := errors.New("had enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, enough)
		defer cancel()
		_, err = dialerOf(network{}, "10.0.0.1", "10.0.0.2").dial(ctx, "tcp", "name:80")
		require.ErrorIs(t, err, enough)
	})
}

func TestAddressesOfBothFamiliesComeInTurn(t *testing.T) {
	for in, want := range map[string]string{
		"::1 ::2 ::3 1.1.1.1":           "::1 1.1.1.1 ::2 ::3",
		"1.1.1.1 ::1 1.1.1.2 1.1.1.3":   "1.1.1.1 ::1 1.1.1.2 1.1.1.3",
		"1.1.1.1":                       "1.1.1.1",
		strings.Repeat("1.1.1.1 ", 100): strings.TrimSpace(strings.Repeat("1.1.1.1 ", mostAddresses)),
	} {
		var addresses []netip.Addr
		for text := range strings.FieldsSeq(in) {
			addresses = append(addresses, netip.MustParseAddr(text))
		}
		var got []string
		for _, a := range alternating(addresses) {
			got = append(got, a.String())
		}
		assert.Equal(t, want, strings.Join(got, " "))
	}
}
