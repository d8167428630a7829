package server_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
)

// swarmed serves st to a swarm, in which addresses of allow may be claimed.
func swarmed(t *testing.T, st *store.Store, counts *metrics.Metrics, allow ...netip.Prefix) site {
	t.Helper()
	return newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Members: members(t, allow...), Metrics: counts})
}

// members returns a swarm without members.
func members(t *testing.T, allow ...netip.Prefix) *swarm.Members {
	t.Helper()
	m := swarm.NewMembers(swarm.MembersOptions{
		Allow: allow, Probe: server.Reach, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(m.Close)
	return m
}

// address is where s is.
func (s site) address() string { return strings.TrimPrefix(s.url, "http://") }

func (s site) port() string {
	_, port, _ := net.SplitHostPort(s.address())
	return port
}

// join joins by a claim until that has another standing than pending.
func (s site) join(t *testing.T, claim string) answer {
	t.Helper()
	var got answer
	require.Eventually(t, func() bool {
		got = s.get(t, "/peers.txt", "Shardcast-Peer", claim)
		return got.header.Get("Shardcast-Peer") != "pending"
	}, patience, time.Millisecond)
	require.Equal(t, http.StatusOK, got.status)
	return got
}

func TestAServerWithoutASwarmListsNoMembers(t *testing.T) {
	s := newSite(t, open(t, t.TempDir()))
	got := s.get(t, "/peers.txt", "Shardcast-Peer", "8001")
	unknown := s.get(t, "/unknown.txt", "Shardcast-Peer", "8001")
	for _, a := range []answer{got, unknown} {
		a.header.Del("Date")
	}
	assert.Equal(t, http.StatusNotFound, got.status)
	assert.Equal(t, unknown, got)
}

func TestPeerIsListedForOthersOnceItWasReached(t *testing.T) {
	st := open(t, t.TempDir())
	m := metrics.New("origin", "")
	s, peer := swarmed(t, st, m), newSite(t, st)
	got := s.get(t, "/peers.txt")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Empty(t, got.body)
	assert.Empty(t, got.header.Get("Shardcast-Peer"), "no node has joined")
	assert.Equal(t, "text/plain; charset=utf-8", got.header.Get("Content-Type"))
	assert.Equal(t, "no-store", got.header.Get("Cache-Control"))
	assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"))

	assert.Equal(t, "pending", s.get(t, "/peers.txt", "Shardcast-Peer", peer.port()).header.Get("Shardcast-Peer"))
	got = s.join(t, peer.port())
	assert.Equal(t, "listed", got.header.Get("Shardcast-Peer"))
	assert.Empty(t, got.body, "a node is never listed to itself")
	assert.Equal(t, peer.url+"\n", s.get(t, "/peers.txt").body)
	assert.Equal(t, peer.url+"\n", s.get(t, "/peers.txt", "Shardcast-Peer", "0").body, "a reader gets the list")
	assert.Equal(t, peer.url+"\n", s.get(t, "/py03/peers.txt").body)
	assert.Equal(t, peer.url+"\n", s.get(t, "/peers.txt", "Shardcast-Peer", "nonsense").body,
		"a refused node may still read")
	assert.NotContains(t, s.get(t, "/peers.txt", "Shardcast-Peer", "0").header, "Shardcast-Peer")
	assert.Equal(t, http.StatusOK, s.ask(t, http.MethodHead, "/peers.txt").status)
	assert.Equal(t, http.StatusMethodNotAllowed, s.ask(t, http.MethodPost, "/peers.txt").status)
	has(t, m, "shardcast_swarm_peers", "1")
	has(t, m, `shardcast_http_requests_total{code="405",kind="peers"}`, "1")
}

func TestPeerThatIsNoServerOfOursIsUnreachable(t *testing.T) {
	s := swarmed(t, open(t, t.TempDir()), nil)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	_, port, err := net.SplitHostPort(gone.Addr().String())
	require.NoError(t, err)
	got := s.join(t, port)
	assert.Equal(t, "unreachable", got.header.Get("Shardcast-Peer"))

	redirected, written := 0, 0
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		redirected++
		_, _ = io.WriteString(w, "ok\n")
	}))
	defer target.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"other":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok, says nginx\n") },
		"404":      http.NotFound,
		"503":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "ok", http.StatusServiceUnavailable) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for err := error(nil); err == nil; {
				var n int
				n, err = w.Write(make([]byte, 1<<10))
				written += n
			}
		},
		"header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			_, _ = io.WriteString(w, "ok\n")
		},
	} {
		srv := httptest.NewServer(handler)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
		require.NoError(t, err)
		assert.Equal(t, "unreachable", s.join(t, port).header.Get("Shardcast-Peer"), name)
		srv.Close() // when it has answered
	}
	assert.Less(t, written, 64<<20, "it is not read to its end")
	assert.Empty(t, s.get(t, "/peers.txt").body)
	assert.Zero(t, redirected, "no redirect is followed")
}

func TestASilentPeerIsUnreachable(t *testing.T) {
	s := swarmed(t, open(t, t.TempDir()), nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, by its backlog
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	_, port, err := net.SplitHostPort(silent.Addr().String())
	require.NoError(t, err)
	assert.Equal(t, "unreachable", s.join(t, port).header.Get("Shardcast-Peer"))
}

func TestNoAddressIsProbedByTheWordOfAnother(t *testing.T) {
	st := open(t, t.TempDir())
	peer, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("this system has one loopback address")
	}
	asked := make(chan string, 10)
	srv := &httptest.Server{
		Listener: peer,
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- fmt.Sprint(r.Method, " ", r.URL, " ", r.Close)
			_, _ = io.WriteString(w, "ok\n")
		})},
	}
	srv.Start()
	defer srv.Close()
	at := peer.Addr().String()

	s := swarmed(t, st, nil)
	for _, claim := range []string{
		at, "localhost" + strings.TrimPrefix(at, "127.0.0.2"), "http://" + at, "[::1]:80",
		"70000", "", "8001, 8002",
	} {
		assert.Equal(t, "refused", s.join(t, claim).header.Get("Shardcast-Peer"), claim)
	}
	assert.Empty(t, s.get(t, "/peers.txt").body)
	assert.Empty(t, asked)

	s = swarmed(t, st, nil, netip.MustParsePrefix("127.0.0.2/32"))
	assert.Equal(t, "listed", s.join(t, at).header.Get("Shardcast-Peer"))
	assert.Equal(t, "http://"+at+"\n", s.get(t, "/peers.txt").body)
	require.Len(t, asked, 1, "once is enough")
	assert.Equal(t, "GET /healthz true", <-asked, "and the connection is closed")
}

func TestTwoFieldsAreNoClaim(t *testing.T) {
	s := swarmed(t, open(t, t.TempDir()), nil)
	conn := dial(t, s.address())
	_, err := io.WriteString(conn,
		"GET /peers.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+
			"Shardcast-Peer: 8001\r\nShardcast-Peer: 8002\r\n\r\n")
	require.NoError(t, err)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(got), "\r\nShardcast-Peer: refused\r\n")
}

func TestANodeGetsSixteenOfSixtyFourMembers(t *testing.T) {
	st := open(t, t.TempDir())
	s := swarmed(t, st, nil)
	var ports []string
	for range 64 {
		peer := newSite(t, st)
		ports = append(ports, peer.port())
		s.get(t, "/peers.txt", "Shardcast-Peer", peer.port())
	}
	for _, port := range ports {
		require.Equal(t, "listed", s.join(t, port).header.Get("Shardcast-Peer"))
	}
	seen := make(map[string]bool)
	for range 50 {
		got := s.get(t, "/peers.txt", "Shardcast-Peer", ports[0])
		lines := strings.Fields(got.body)
		require.Len(t, lines, 16)
		for _, line := range lines {
			seen[line] = true
			require.NotEqual(t, "http://127.0.0.1:"+ports[0], line)
		}
	}
	assert.Greater(t, len(seen), 16)
	assert.Equal(t, "refused", s.join(t, strconv.Itoa(1)).header.Get("Shardcast-Peer"), "an address has 64 places")
	list := strings.NewReader(s.get(t, "/peers.txt").body)
	peers := swarm.ParsePeers(list, netip.MustParseAddr("127.0.0.1"), false, nil)
	assert.Len(t, peers, 16)
}

func TestPageOfAnotherSiteCannotJoin(t *testing.T) {
	s := swarmed(t, open(t, t.TempDir()), nil)
	got := s.ask(t, http.MethodOptions, "/peers.txt", "Origin", "https://example.com",
		"Access-Control-Request-Method", "GET",
		"Access-Control-Request-Headers", "shardcast-peer")
	assert.NotContains(t, strings.ToLower(got.header.Get("Access-Control-Allow-Headers")), "shardcast-peer")
}
