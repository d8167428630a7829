package fetch

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
)

func at(format string, args ...any) *url.URL {
	return &url.URL{Scheme: "http", Host: fmt.Sprintf(format, args...)}
}

func poolOf(t *testing.T, urls ...*url.URL) *Pool {
	t.Helper()
	p, err := New(Options{Upstreams: urls, Metrics: metrics.New("middle", "")})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func sixteen(round int) (told []*url.URL) {
	for i := range swarm.MaxPeers {
		told = append(told, at("192.0.2.%d:%d", i, 1000+round))
	}
	return told
}

func TestPeersOfLongAgoAreForgotten(t *testing.T) {
	p := poolOf(t, at("a:80"), at("b:80"))
	a, b := p.upstreams[0], p.upstreams[1]
	p.meet(b, []*url.URL{at("198.51.100.1:80")}, swarm.Listed)
	first := b.peers[0]
	for round := range 200 {
		for _, peer := range a.peers {
			peer.deaf = deafAfter
		}
		p.meet(a, sixteen(round), swarm.Listed)
		require.Len(t, a.peers, swarm.MaxPeers)
		for _, peer := range a.peers {
			p.rank.Delivered(peer.index, 1<<30, 1)
		}
	}
	assert.LessOrEqual(t, len(p.all()), 2+mostKnown)
	assert.Len(t, p.rank.estimates, len(p.all()))
	for i, u := range p.all() {
		assert.Equal(t, i, u.index)
	}
	assert.Contains(t, p.all(), first, "who is a peer yet is not forgotten")
	assert.Equal(t, []*upstream{first}, b.peers)
	peers, _ := p.neighbours()
	assert.Len(t, peers, swarm.MaxPeers)
	present, _ := p.present()
	assert.Equal(t, []*upstream{a, b}, present)
	assert.Empty(t, p.Offers())
	assert.Len(t, p.measure(), 2)
	a.offered = []distfile.Entry{{Version: 1}}
	assert.Equal(t, a, p.pick(func(u *upstream) bool { return p.offers(u, a.offered[0]) }))
}

func TestMostPeersThatCanBeHeardStayWhileThereMayBeMore(t *testing.T) {
	p := poolOf(t, at("a:80"))
	a := p.upstreams[0]
	p.meet(a, sixteen(1), swarm.Listed)
	before := a.peers
	before[3].deaf = deafAfter
	_, changed := p.present()
	p.meet(a, sixteen(2), swarm.Listed)
	<-changed
	assert.NotContains(t, a.peers, before[3])
	assert.Len(t, a.peers, swarm.MaxPeers)
	stayed := 0
	for _, peer := range a.peers {
		if slices.Contains(before, peer) {
			stayed++
		}
	}
	assert.Equal(t, 12, stayed, "whoever comes late is to be met as well")
	p.meet(a, sixteen(1)[:2], swarm.Listed)
	assert.Equal(t, before[:2], a.peers, "these are all")
}

func TestTheSamePeersInAnotherOrderAreNoNews(t *testing.T) {
	p := poolOf(t, at("a:80"))
	p.meet(p.upstreams[0], sixteen(1)[:3], swarm.Listed)
	_, changed := p.present()
	told := sixteen(1)[:3]
	told[0], told[2] = told[2], told[0]
	p.meet(p.upstreams[0], told, swarm.Listed)
	select {
	case <-changed:
		assert.Fail(t, "all are looked at again")
	default:
	}
}

func TestAnUpstreamIsNoPeer(t *testing.T) {
	p := poolOf(t, at("192.0.2.1:8000"), at("192.0.2.2"), &url.URL{Scheme: "https", Host: "[2001:db8::1]", Path: "/base"})
	p.meet(p.upstreams[0], []*url.URL{at("192.0.2.1:8000"), at("192.0.2.2:80"), at("[2001:db8::1]:443"), at("192.0.2.3:80")}, swarm.Listed)
	peers, _ := p.neighbours()
	require.Len(t, peers, 1)
	assert.Equal(t, "http://192.0.2.3:80", peers[0].name)
}

// A name may come to have an address at which there was a peer before.
func TestAPeerThatBecomesAnUpstreamIsBoth(t *testing.T) {
	p := poolOf(t, at("a:80"))
	p.meet(p.upstreams[0], []*url.URL{at("192.0.2.3:80")}, swarm.Listed)
	u := p.join(at("192.0.2.3:80"), 0)
	assert.False(t, u.peer)
	assert.False(t, u.gone)
	assert.Len(t, p.measure(), 1)
	p.meet(p.upstreams[0], []*url.URL{at("192.0.2.3:80")}, swarm.Listed)
	peers, _ := p.neighbours()
	assert.Empty(t, peers)
}

func TestANodeIsAReaderIfAllUpstreamsThatSayAnythingSaySo(t *testing.T) {
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
		p := poolOf(t, at("a:80"), at("b:80"), at("c:80"))
		for i, standing := range tc.standings {
			p.meet(p.upstreams[i], nil, standing)
		}
		assert.Equal(t, tc.reader, p.isReader(), "%q", tc.standings)
	}
}

// Where a proxy is says nothing of where the upstream is.
func TestPeersAreNotWhereOnlyTheProxyMayGo(t *testing.T) {
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "8001", r.Header.Get(swarm.PeerHeader))
		fmt.Fprint(w, "http://127.0.0.1:7\nhttp://10.0.0.1:7\nhttp://203.0.113.9:7\n")
	}))
	defer list.Close()
	server, err := url.Parse(list.URL)
	require.NoError(t, err)
	direct := poolOf(t, server)
	require.NoError(t, direct.askPeers(t.Context(), direct.upstreams[0], 8001))
	peers, _ := direct.neighbours()
	assert.Len(t, peers, 3, "a loopback upstream")
	proxied := poolOf(t, at("upstream.example:80"))
	transport, _ := proxied.client.Transport.(*http.Transport)
	transport.Proxy = http.ProxyURL(server)
	require.NoError(t, proxied.askPeers(t.Context(), proxied.upstreams[0], 8001))
	peers, _ = proxied.neighbours()
	require.Len(t, peers, 1)
	assert.Equal(t, "http://203.0.113.9:7", peers[0].name)
	proxied.opts.SwarmAllow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	require.NoError(t, proxied.askPeers(t.Context(), proxied.upstreams[0], 8001))
	peers, _ = proxied.neighbours()
	assert.Len(t, peers, 2)
}

func TestANewerVersionComesFirst(t *testing.T) {
	p := poolOf(t, at("a:80"))
	p.opts.Swarm = true
	begin := func(version shard.Version) *swarming {
		f := p.fetching(Task{Entry: distfile.Entry{Version: version}, Relay: true}, nil)
		f.source, f.digests, f.sink = p.upstreams[0], make([]shard.Digest, 20), idleSink{}
		return f.newSwarming()
	}
	taken := func(s *swarming) (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for {
			if pick, _, _ := s.choose(false, s.isBehind()); pick.Shard == 0 {
				return n
			}
			n++
		}
	}
	older := begin(1)
	newer := begin(2)
	assert.Equal(t, behindWorkers, taken(older))
	assert.Equal(t, DefaultConcurrency, taken(newer))
	newer.over()
	assert.Equal(t, DefaultConcurrency-behindWorkers, taken(older), "the rest of its workers")
	older.over()
	(*swarming)(nil).over()
	assert.Empty(t, p.swarms)
}

// idleSink is for what nobody brings.
type idleSink struct{ Sink }
