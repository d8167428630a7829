package peering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// TestMain has a proxy between the tests and all hosts that are not on this machine. It
// answers in place of any upstream.
func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(listPeers))
	if err := os.Setenv("HTTP_PROXY", proxy.URL); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// listPeers is an upstream with three peers.
func listPeers(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(wire.PeerHeader) != "8001" {
		http.Error(w, "no port", http.StatusBadRequest)
		return
	}
	w.Header().Set(wire.PeerHeader, string(swarm.Listed))
	fmt.Fprint(w, "http://127.0.0.1:7\nhttp://10.0.0.1:7\nhttp://203.0.113.9:7\n")
}

func at(format string, args ...any) *url.URL {
	return &url.URL{Scheme: "http", Host: fmt.Sprintf(format, args...)}
}

// swarmOf returns a swarm of upstreams that is not young.
func swarmOf(t *testing.T, opts Options, upstreams ...*url.URL) (*Swarm, []*remote.Server) {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	opts.Roster = roster.New(roster.Options{
		Upstreams: upstreams, Attempts: 3, Waits: waits, Draw: func() float64 { return 0 }, Logger: opts.Logger,
	})
	t.Cleanup(opts.Roster.Close)
	if opts.Remote == nil {
		opts.Remote = remote.New(remote.Options{Timeout: time.Minute})
		t.Cleanup(opts.Remote.Close)
	}
	w := New(opts)
	w.began = time.Now().Add(-mostPeers)
	return w, opts.Roster.Servers()
}

var waits = roster.Waits{FastAttempts: 3, FastWait: 2 * time.Second, SlowWait: 15 * time.Second}

// sixteen are the peers that an upstream names in a round.
func sixteen(round int) (peers []swarm.Peer) {
	for i := range swarm.MaxPeers {
		peers = append(peers, named(fmt.Sprintf("192.0.2.%d:%d", i, 1000+round))...)
	}
	return peers
}

// named are peers at addresses.
func named(addresses ...string) []swarm.Peer {
	peers := make([]swarm.Peer, len(addresses))
	for i, address := range addresses {
		peers[i].At = netip.MustParseAddrPort(address)
	}
	return peers
}

func TestPeersOfLongAgoAreForgotten(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"), at("b:80"))
	a, b := upstreams[0], upstreams[1]
	w.meet(b, named("198.51.100.1:80"), swarm.Listed)
	first := w.named[b][0]
	w.meet(a, named("198.51.100.2:80"), swarm.Listed)
	sending := w.named[a][0]
	sending.transfers = 1
	for round := range 200 {
		for _, p := range w.named[a] {
			p.deaf = deafAfter
		}
		w.meet(a, sixteen(round), swarm.Listed)
		require.Len(t, w.named[a], swarm.MaxPeers)
	}
	assert.LessOrEqual(t, len(w.known), mostKnown)
	assert.Len(t, w.States(), len(w.known))
	assert.Contains(t, w.known, first, "a peer that an upstream names is not forgotten")
	assert.Equal(t, []*peer{first}, w.named[b])
	assert.Contains(t, w.known, sending, "a peer that sends is not forgotten")
	assert.Len(t, w.Neighbours(), swarm.MaxPeers)
	assert.Equal(t, []*remote.Server{a, b}, w.opts.Roster.Servers(), "peers are not in the roster")
}

func TestAPeerIsForgottenOnlyIfNoUpstreamNamesItAndItSendsNothing(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	for i := range mostKnown {
		p := w.peer(named(fmt.Sprintf("192.0.2.1:%d", 1000+i))[0])
		switch {
		case i == 7:
		case i%2 == 0:
			p.transfers = 1
		default:
			w.named[upstreams[0]] = append(w.named[upstreams[0]], p)
		}
	}
	before := slices.Clone(w.known)
	p := w.peer(named("192.0.2.2:1")[0])
	assert.Len(t, w.known, mostKnown)
	before[7] = p
	assert.Equal(t, before, w.known)
	p.transfers = 1
	w.peer(named("192.0.2.2:2")[0])
	assert.Equal(t, before, w.known[:mostKnown])
}

func TestMostPeersThatListTheirShardsStayWhileThereMayBeMore(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	a := upstreams[0]
	w.meet(a, sixteen(1), swarm.Listed)
	before := w.named[a]
	for _, p := range before {
		p.deaf = deafAfter - 1
	}
	before[3].deaf = deafAfter
	changed := w.changed.Wait()
	w.meet(a, sixteen(2), swarm.Listed)
	<-changed
	assert.NotContains(t, w.named[a], before[3])
	assert.Len(t, w.named[a], swarm.MaxPeers)
	stayed := 0
	for _, p := range w.named[a] {
		if slices.Contains(before, p) {
			stayed++
		}
	}
	assert.Equal(t, 12, stayed, "peers that come late are met as well")
	w.meet(a, sixteen(1)[:2], swarm.Listed)
	assert.Equal(t, before[:2], w.named[a], "these are all")
}

func TestTheSamePeersInAnotherOrderAreNoNews(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	w.meet(upstreams[0], sixteen(1)[:3], swarm.Listed)
	changed := w.changed.Wait()
	again := sixteen(1)[:3]
	again[0], again[2] = again[2], again[0]
	w.meet(upstreams[0], again, swarm.Listed)
	select {
	case <-changed:
		assert.Fail(t, "all are looked at again")
	default:
	}
}

func TestAnUpstreamIsNoPeer(t *testing.T) {
	w, upstreams := swarmOf(t, Options{},
		at("192.0.2.1:8000"), at("192.0.2.2"), &url.URL{Scheme: "https", Host: "[2001:db8::1]", Path: "/base"})
	peersAndUpstreams := named("192.0.2.1:8000", "192.0.2.2:80", "[2001:db8::1]:443", "192.0.2.3:80")
	w.meet(upstreams[0], peersAndUpstreams, swarm.Listed)
	peers := w.Neighbours()
	require.Len(t, peers, 1)
	assert.Equal(t, "http://192.0.2.3:80", peers[0].Name)
}

// A name may come to have an address at which there was a peer before.
func TestAPeerThatBecomesAnUpstreamIsAPeerNoMore(t *testing.T) {
	var opts Options
	opts.Remote = remote.New(remote.Options{Timeout: time.Minute})
	defer opts.Remote.Close()
	opts.Logger = slog.New(slog.DiscardHandler)
	opts.Roster = roster.New(roster.Options{
		Upstreams: []*url.URL{at("a:80"), {Scheme: "dns+http", Host: "name:80"}}, Timeout: time.Minute,
		Draw: func() float64 { return 0 }, Logger: opts.Logger, Changed: func([]*remote.Server) {},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.3")}, nil
		},
	})
	defer opts.Roster.Close()
	w := New(opts)
	upstream := w.opts.Roster.Servers()[0]
	w.meet(upstream, named("192.0.2.3:80"), swarm.Listed)
	assert.Len(t, w.Neighbours(), 1)
	w.opts.Roster.Names.Resolve(t.Context())
	require.Len(t, w.opts.Roster.Servers(), 2)
	w.meet(upstream, named("192.0.2.3:80"), swarm.Listed)
	assert.Empty(t, w.Neighbours())
}

func TestPeersOfAnUpstreamThatHasGoneAreNoNeighbours(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	w.meet(upstreams[0], sixteen(1)[:2], swarm.Listed)
	stranger := remote.NewServer(at("b:80"))
	w.meet(stranger, sixteen(2)[:2], swarm.Listed)
	assert.Len(t, w.Neighbours(), 2)
}

func TestANodeIsAReaderIfAllUpstreamsThatStateAnythingStateIt(t *testing.T) {
	for _, tc := range []struct {
		standings [3]swarm.Standing
		reader    bool
	}{
		{[3]swarm.Standing{}, false},
		{[3]swarm.Standing{swarm.Unreachable}, true},
		{[3]swarm.Standing{swarm.Unreachable, swarm.Refused}, true},
		{[3]swarm.Standing{swarm.Unreachable, swarm.Unreachable, swarm.Pending}, false},
		{[3]swarm.Standing{swarm.Unreachable, swarm.Listed, swarm.Refused}, false},
		{[3]swarm.Standing{"", "", "so"}, false},
	} {
		w, upstreams := swarmOf(t, Options{}, at("a:80"), at("b:80"), at("c:80"))
		for i, standing := range tc.standings {
			w.meet(upstreams[i], nil, standing)
		}
		assert.Equal(t, tc.reader, w.isReader(), "%q", tc.standings)
	}
}

// The address of a proxy says nothing of where the upstream is.
func TestPeersAreNotAtAddressesThatOnlyTheProxyMayReach(t *testing.T) {
	list := httptest.NewServer(http.HandlerFunc(listPeers))
	defer list.Close()
	loopback, err := url.Parse(list.URL)
	require.NoError(t, err)
	proxied := at("upstream.example:80")
	for name, tc := range map[string]struct {
		upstream *url.URL
		allow    []netip.Prefix
		want     []string
	}{
		"a loopback upstream": {
			loopback, nil, []string{"http://127.0.0.1:7", "http://10.0.0.1:7", "http://203.0.113.9:7"},
		},
		"behind a proxy": {proxied, nil, []string{"http://203.0.113.9:7"}},
		"as the options allow": {
			proxied,
			[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			[]string{"http://10.0.0.1:7", "http://203.0.113.9:7"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, upstreams := swarmOf(t, Options{Allow: tc.allow}, tc.upstream)
			require.NoError(t, w.ask(t.Context(), upstreams[0], 8001))
			var got []string
			for _, s := range w.Neighbours() {
				got = append(got, s.Name)
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, swarm.Listed, w.standing[upstreams[0]])
			require.Error(t, w.ask(t.Context(), upstreams[0], 1))
			assert.Len(t, w.Neighbours(), len(tc.want), "they stay while the upstream fails")
		})
	}
}

func TestStatesOfPeers(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	w.meet(upstreams[0], sixteen(1)[:3], swarm.Listed)
	broken := errors.New("broke off")
	w.known[1].transfers, w.known[1].err = 2, broken
	w.known[2].err = broken
	states := w.States()
	require.Len(t, states, 3)
	for i, want := range []string{roster.Idle, roster.Sending, roster.Failing} {
		assert.Equal(t, want, states[i].Upstream.State)
		assert.True(t, states[i].Upstream.Peer)
		assert.Equal(t, fmt.Sprintf("http://192.0.2.%d:1001", i), states[i].Upstream.URL)
	}
	assert.Equal(t, 2, states[1].Upstream.Transfers)
	require.NoError(t, states[1].Upstream.Err)
	require.ErrorIs(t, states[2].Upstream.Err, broken)
}

// machine answers requests on pipes, for tests with a clock of their own.
type machine struct{ conns chan net.Conn }

func (m machine) Accept() (net.Conn, error) {
	conn, ok := <-m.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (m machine) Close() error   { return nil }
func (m machine) Addr() net.Addr { return &net.TCPAddr{} }

// clientOf returns a client of which every request is answered by h. The Host of the
// request is that of its server.
func clientOf(t *testing.T, h http.HandlerFunc) *remote.Client {
	t.Helper()
	m := machine{make(chan net.Conn)}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(m)
	}()
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		m.conns <- theirs
		return ours, nil
	}
	client := remote.New(remote.Options{Timeout: time.Minute, Dial: dial})
	t.Cleanup(func() {
		client.Close()
		close(m.conns)
		<-served
		assert.NoError(t, server.Close())
	})
	return client
}

func TestJoinAsksForPeersMoreAndMoreSeldomUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var asked []time.Duration
		var ports []string
		client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, time.Since(start))
			ports = append(ports, r.Header.Get(wire.PeerHeader))
			assert.True(t, strings.HasSuffix(r.URL.Path, "/"+wire.PeersName), r.URL.Path)
			w.Header().Set(wire.PeerHeader, string(swarm.Unreachable))
			fmt.Fprint(w, "http://203.0.113.9:7\n")
		})
		w, _ := swarmOf(t, Options{Remote: client}, at("a:80"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Join(ctx, &net.TCPAddr{Port: 7777}, nil)
		}()
		time.Sleep(time.Minute)
		assert.Len(t, w.Neighbours(), 1)
		assert.True(t, w.isReader())
		cancel()
		<-ended
		assert.Empty(t, w.Neighbours(), "the node has left")
		assert.False(t, w.isReader())
		assert.Equal(t, "7777", ports[0])
		require.Greater(t, len(asked), 9)
		assert.Zero(t, asked[0])
		for i, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
			want *= time.Millisecond
			assert.InDelta(t, want, asked[i+1]-asked[i], float64(want)/4, "wait %d", i)
		}
	})
}

func TestAHostThatNoPeerAnswersAtIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := swarmOf(t, Options{})
		within, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		var mu sync.Mutex
		dials := 0
		var group sync.WaitGroup
		for port := range 16 {
			p := &peer{server: remote.NewServer(at("192.0.2.1:%d", 1+port))}
			group.Go(func() {
				for within.Err() == nil {
					start := time.Now()
					if pause := w.pause(p); pause > 0 {
						time.Sleep(pause)
						continue
					}
					mu.Lock()
					dials++
					mu.Unlock()
					time.Sleep(time.Millisecond)
					w.tried(p, start, errors.New("connection refused"))
					time.Sleep(hearAgain)
				}
			})
		}
		group.Wait()
		assert.Less(t, dials, 50, "a host that another one names is flooded")
		assert.Greater(t, dials, 20, "it may be back")
		p := &peer{server: remote.NewServer(at("192.0.2.1:1"))}
		w.tried(p, time.Now(), nil)
		assert.Zero(t, w.pause(p))
		assert.Zero(t, w.pause(&peer{server: remote.NewServer(at("192.0.2.2:1"))}), "another host is another")
	})
}
