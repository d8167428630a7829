package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// dialing connects by a dialer.
type dialing func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error)

// readFrom connects from an address of loopback, by TCP or as dial does, asks for a path, and
// returns the answer when it has begun.
func readFrom(t *testing.T, addr, from, path, as string, dial ...dialing) (*http.Response, error) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	dial = append(dial, func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	})
	conn, err := dial[0](t.Context(), &dialer, addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n", path, wire.SwarmHeader, as)
	require.NoError(t, err)
	// To close the body would read all that comes, for ever.
	return http.ReadResponse(bufio.NewReader(conn), nil)
}

func TestReadersThatTakeNothingLoseTheirSlots(t *testing.T) {
	const size = 64 << 20 // more than the sockets take on their own
	dir := t.TempDir()
	large(t, dir, 1, size)
	for name, tc := range map[string]struct {
		as     string
		limits slots.Limits
	}{
		"of a swarm":        {as: swarm.AsUpstream},
		"of all":            {limits: slots.Limits{Connections: 8}},
		"of all in a swarm": {as: swarm.AsUpstream, limits: slots.Limits{Connections: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := swarm.NewMembers(swarm.MembersOptions{Logger: slog.New(slog.DiscardHandler)})
			t.Cleanup(members.Close)
			s := serveAs(t, server.Options{
				Catalog: catalog.New(open(t, dir), nil), Limits: tc.limits, Members: members,
				Logger: slog.New(slog.DiscardHandler),
			})
			var slow []io.Reader
			for range 8 {
				resp, err := readFrom(t, s.addr, "127.0.0.1", shardPath, tc.as) //nolint:bodyclose // readFrom closes it
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, resp.StatusCode)
				slow = append(slow, resp.Body)
			}
			for range 3 { // the second and third find free slots, for the slow host has but one now
				resp, err := readFrom(t, s.addr, "127.0.0.2", shardPath, tc.as) //nolint:bodyclose // readFrom closes it
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, resp.StatusCode, "slow readers keep all slots")
				n, err := io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				assert.EqualValues(t, size, n)
			}
			brokenOff := 0
			for _, body := range slow {
				if _, err := io.Copy(io.Discard, body); err != nil {
					brokenOff++
				}
			}
			assert.GreaterOrEqual(t, brokenOff, 1, "an answer that is broken off must not look whole")
		})
	}
}

// Each host has no more than its part here, so that one loses its slot for its slowness alone.
func TestAReaderThatTakesNothingOverTLSLosesItsSlot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large(t, dir, 1, 64<<20) // more than the sockets take on their own
	s := serveAs(t, server.Options{
		Catalog: catalog.New(open(t, dir), nil), Limits: slots.Limits{Connections: 1}, TLS: speaking(t),
		Logger: slog.New(slog.DiscardHandler),
	})
	slow, err := readFrom(t, s.addr, "127.0.0.1", shardPath, "", trusting) //nolint:bodyclose // readFrom closes it
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, slow.StatusCode)
	for begun := time.Now(); ; { // at first the sockets still take something
		other, err := readFrom(t, s.addr, "127.0.0.2", shardPath, "", trusting) //nolint:bodyclose // readFrom closes it
		require.NoError(t, err)
		if other.StatusCode == http.StatusOK {
			break
		}
		require.Less(t, time.Since(begun), patience, "a slow reader keeps all slots")
	}
	_, err = io.Copy(io.Discard, slow.Body)
	require.Error(t, err, "an answer that is broken off must not look whole")
}

func TestAReaderThatWaitsForTheRateKeepsItsSlot(t *testing.T) {
	t.Parallel()
	const size = 50_000 // which the sockets take on their own, so that the server alone is slow
	dir := t.TempDir()
	large(t, dir, 1, size)
	s := serveAs(t, server.Options{
		Catalog: catalog.New(open(t, dir), nil), Limits: slots.Limits{Connections: 1, RatePerClient: size / 3},
		Logger: slog.New(slog.DiscardHandler),
	})
	first, err := readFrom(t, s.addr, "127.0.0.1", shardPath, "") //nolint:bodyclose // readFrom closes it
	require.NoError(t, err)
	other, err := readFrom(t, s.addr, "127.0.0.2", shardPath, "")
	require.NoError(t, err)
	_ = other.Body.Close()
	n, err := io.Copy(io.Discard, first.Body)
	require.NoError(t, err, "a reader is broken off for the server's own slowness")
	assert.EqualValues(t, size, n)
}

// Of one host there are as many followers of a version as there may be, and no more.
func TestFollowersAreBounded(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	s := swarmed(t, st, nil)
	for range 64 {
		s.have(t, m.Digest)
	}
	path := "/v1/have?digest=" + m.Digest.String()
	addr := strings.TrimPrefix(s.url, "http://")
	other, err := readFrom(t, addr, "127.0.0.2", path, "") //nolint:bodyclose // readFrom closes it
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, other.StatusCode, "one host keeps another from following")
	assert.Equal(t, http.StatusServiceUnavailable, s.get(t, path).status)
}
