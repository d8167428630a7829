package remote

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	return &dialer{
		timeout: 30 * time.Second, connect: n.connect,
		lookUp: func(context.Context, string, string) (found []netip.Addr, err error) {
			for _, a := range addresses {
				found = append(found, netip.MustParseAddr(a))
			}
			return found, nil
		},
	}
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
