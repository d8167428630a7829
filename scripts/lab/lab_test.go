package main

import (
	"bufio"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
)

// size takes one second at the rate of eight megabits per second.
const size flags.Bytes = 1_000_000

// eight is the shape of the plans of tests.
var eight = shape{clients: 4, middles: 2, rate: 8_000_000}

func TestBoundIsWhatTheWiresAllow(t *testing.T) {
	uploading := func(up rate) spec { return spec{role: client, up: up, down: 8e6} }
	sixteen := 1600 * time.Millisecond
	for name, tc := range map[string]struct {
		plan            plan
		bound, ofOthers time.Duration
		receivers       int
	}{
		"star":                   {star(eight), time.Second, time.Second, 4},
		"tree":                   {tree(eight), time.Second, time.Second, 6},
		"fanout":                 {fanout(eight), time.Second, time.Second, 4},
		"one middle":             {oneMiddle(eight), time.Second, time.Second, 1},
		"chain":                  {chain(eight), time.Second, time.Second, 4},
		"slowest down":           {slow(eight), 10 * time.Second, time.Second, 4},
		"origin's up":            {asymmetric(eight), 4 * time.Second, 4 * time.Second, 4},
		"the killed want none":   {gone(eight), time.Second, time.Second, 3},
		"a killed middle":        {killedMiddle(eight), time.Second, time.Second, 5},
		"a liar wants none":      {lying(eight), time.Second, time.Second, 3},
		"late":                   {lateClient(eight), time.Second, time.Second, 4},
		"sum of all up":          {plan{{up: 8e6}, uploading(1e6), uploading(1e6)}, sixteen, sixteen, 2},
		"one that cannot upload": {plan{{up: 8e6}, uploading(0)}, time.Second, time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			assert.InDelta(t, tc.bound, tc.plan.bound(size, true), float64(time.Microsecond))
			assert.InDelta(t, tc.ofOthers, tc.plan.bound(size, false), float64(time.Microsecond))
			assert.Equal(t, tc.receivers, tc.plan.receivers())
		})
	}
}

func TestACableDelaysAndLosesFramesAndHoldsFewBack(t *testing.T) {
	now := time.Now()
	l := lane{rate: 8_000_000, delay: 25 * time.Millisecond} // a byte a microsecond
	at, ok := l.admit(now, 1000)
	require.True(t, ok)
	assert.Equal(t, 26*time.Millisecond, at.Sub(now))
	for range 49 {
		at, ok = l.admit(now, 1000)
		require.True(t, ok)
	}
	assert.Equal(t, 75*time.Millisecond, at.Sub(now), "each after those before it")
	_, ok = l.admit(now, 1000)
	assert.False(t, ok, "there is no more room than for 50 ms")
	_, ok = l.admit(now.Add(time.Millisecond), 1000)
	assert.True(t, ok, "one has passed")
	l = lane{rate: 1_000_000_000, loss: 0.1, draw: rand.New(rand.NewPCG(1, 0))}
	lost := 0
	for i := range 10_000 {
		if _, ok := l.admit(now.Add(time.Duration(i)*time.Millisecond), 1000); !ok {
			lost++
		}
	}
	assert.InDelta(t, 1000, lost, 100)
}

func TestALiarAnnouncesAllShardsAndSendsZeros(t *testing.T) {
	m := shard.Manifest{Size: 25, ShardSize: 10, Shards: make([]shard.Digest, 3)}
	srv := httptest.NewServer(liar(m))
	t.Cleanup(srv.Close) // after the connections, or it would wait for them
	get := func(path string) (int, io.ReadCloser) {
		t.Helper()
		resp, err := srv.Client().Get(srv.URL + path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp.StatusCode, resp.Body
	}
	_, have := get("/v1/have")
	line, err := bufio.NewReader(have).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "+1-3\n", line)
	_, body := get("/v1/shard_003.bin")
	sent, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Equal(t, make([]byte, 5), sent)
	status, _ := get("/v1/shard_004.bin")
	assert.Equal(t, http.StatusNotFound, status)
	at, err := netip.ParseAddrPort(strings.TrimPrefix(srv.URL, "http://"))
	require.NoError(t, err)
	assert.NoError(t, server.Reach(t.Context(), swarm.Peer{At: at}), "an upstream lists it")
}

func TestAFakeNodeIsListedAndHasNothing(t *testing.T) {
	srv := httptest.NewServer(empty())
	t.Cleanup(srv.Close)
	at, err := netip.ParseAddrPort(strings.TrimPrefix(srv.URL, "http://"))
	require.NoError(t, err)
	assert.NoError(t, server.Reach(t.Context(), swarm.Peer{At: at}), "an upstream lists it")
	resp, err := get(t.Context(), srv.Client(), srv.URL+"/v1/have")
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "\n", line)
	_, err = get(t.Context(), srv.Client(), srv.URL+"/v1/shard_001.bin") //nolint:bodyclose // there is none
	require.ErrorContains(t, err, "404")
}

func TestAnAttackerIsNoReceiver(t *testing.T) {
	p := attacked(fakeNodes)(shape{clients: 4, rate: 8_000_000})
	assert.Len(t, p, 6)
	assert.Equal(t, 4, p.clients())
	assert.Equal(t, 4, p.receivers())
}

func TestServersComeBeforeTheNodesThatFetchFromThem(t *testing.T) {
	for _, s := range scenarios() {
		for clients := 1; clients <= 9; clients++ {
			p := s.plan(shape{clients: clients, middles: 2, rate: 8_000_000})
			assert.Equal(t, origin, p[0].role, s.name)
			for i, n := range p[1:] {
				require.NotEmpty(t, n.from, s.name)
				for _, from := range n.from {
					assert.LessOrEqual(t, from, i, s.name)
					assert.NotEqual(t, client, p[from].role, s.name)
				}
			}
		}
	}
}

func TestTimesAreHeldAgainstTheBound(t *testing.T) {
	began := time.Now()
	p := lateClient(shape{clients: 3, rate: 8_000_000})
	held := func() (time.Time, error) { return began, nil }
	tr := &trial{
		lab: &lab{size: size}, plan: p, begun: began, joined: 500 * time.Millisecond,
		nodes: []*node{
			{},
			{began: began, held: held},
			{began: began, held: held},
			{began: began.Add(500 * time.Millisecond), held: held},
		},
		times: []time.Duration{0, 2 * time.Second, 2 * time.Second, 2500 * time.Millisecond},
	}
	var s Sample
	tr.sum(&s)
	assert.InDelta(t, 3.0, s.All, 1e-9)
	assert.InDelta(t, 1.5, s.Bound, 1e-9, "its own link takes a second from when it comes")
	assert.InDelta(t, 0.5, s.ratio(), 1e-9)
	assert.InDelta(t, 0.5, s.Others, 1e-9)
	assert.InDelta(t, 2.0, s.Median, 1e-9)
	assert.InDelta(t, 2.5, s.Slowest, 1e-9)
	assert.Equal(t, 3, s.Nodes)
}

// exampleReport is one of two systems and two numbers of clients.
func exampleReport() *Report {
	r := &Report{
		Date: "2026-01-02T030405", Rounds: 3, Took: "1m0s", Congestion: "cubic",
		rate: 8_000_000, size: size, shard: 1000,
	}
	for _, n := range []int{2, 4} {
		for _, system := range []string{"shardcast", "nginx"} {
			x := r.result(system, variant{scenarios()[0], n, star(shape{clients: n, rate: 8_000_000})})
			for _, seconds := range []float64{4, 2, 8} {
				x.Samples = append(x.Samples, Sample{
					All: seconds, Bound: 1, Others: 0.5, Sent: 1.04, Median: 2, Slowest: 4, Idle: 0.5,
				})
			}
		}
	}
	return r
}

func TestTableHasMediansAndRanges(t *testing.T) {
	r := exampleReport()
	r.result("nginx", variant{scenarios()[0], 4, nil}).fail(io.ErrUnexpectedEOF)
	text := r.Markdown()
	assert.Contains(t, text, "\n| star | 2 | shardcast | 4.00 (2.00 to 8.00) | 1.00 | "+
		"0.25 (0.12 to 0.50) | 0.50 | 1.04 | 2.00 | 4.00 | 50 |  |  |  |  |\n")
	assert.Contains(t, text, "| star | 4 | nginx | **failed 1 times**: unexpected EOF | | | | | | | | | | | |\n")
	head, _, _ := strings.Cut(text[strings.Index(text, "| scenario"):], "\n")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") {
			assert.Equal(t, strings.Count(head, "|"), strings.Count(line, "|"), line)
		}
	}
}

func TestBaseCommandsAreComparedWithTheOthers(t *testing.T) {
	r := exampleReport()
	v := variant{scenarios()[0], 2, star(eight)}
	r.result(baseName(ours), v).Samples = []Sample{{All: 1}, {All: 1.5}, {All: 1.2}}
	text := r.Markdown()
	assert.Contains(t, text, "| star, 2 clients: shardcast, s to all nodes | "+
		"1.200 (1.000 to 1.500) | 4.000 (2.000 to 8.000) | 3.333 | **worse** |\n")
	assert.Contains(t, text, "- base shardcast: shardcast with the commands of -base\n")
}

func TestAMissedGoalIsNamed(t *testing.T) {
	r := exampleReport()
	assert.Empty(t, r.missed(), "star has none")
	for _, s := range scenarios() {
		if s.goals == nil {
			continue
		}
		x := r.result(ours, variant{s, 1, s.plan(eight)})
		x.Samples = []Sample{{All: 100, Bound: 95, Copies: 2, Peak: 65, Sooner: 24, Deltas: 1.1}}
		r.result(inSwarm, variant{s, 1, s.plan(eight)}).Samples = x.Samples // which has one goal alone
	}
	assert.Equal(t, []string{
		"listed: 100.000 s to all nodes, at most 0.25", "readers: 2.000 copies of the shard, at most 1.05",
		"crowd: 65.000 peak of a middle, MiB, at most 64", "delta: 24.000 times sooner than in full, at least 25",
	}, r.missed())
	assert.Contains(t, r.Markdown(), "- chain: 0.950 of the bound, at least 0.9: met\n")
	assert.Contains(t, r.Markdown(), "- delta: 1.100 deltas sent by the origin, at most 1.2: met\n")
}

func TestTheSecondVersionDiffersInTheFraction(t *testing.T) {
	dir := t.TempDir()
	first, err := file.Random(t.Context(), filepath.Join(dir, "first"), size, 1)
	require.NoError(t, err)
	second := filepath.Join(dir, "second")
	digest, err := change(second, first.Name, 1)
	require.NoError(t, err)
	got, err := file.Digest(second)
	require.NoError(t, err)
	assert.Equal(t, digest, got)
	a, err := os.ReadFile(first.Name)
	require.NoError(t, err)
	b, err := os.ReadFile(second)
	require.NoError(t, err)
	require.Len(t, b, len(a))
	differ := 0
	for i := 0; i < len(a); i += 2 {
		if a[i] != b[i] || a[i+1] != b[i+1] {
			differ++
		}
	}
	assert.InDelta(t, changed, 2*float64(differ)/float64(len(a)), 0.002)
	of, err := sizeOf(filepath.Join(dir, "*"))
	require.NoError(t, err)
	assert.EqualValues(t, 2*size, of)
	_, err = sizeOf(filepath.Join(dir, "none"))
	require.Error(t, err)
}

func TestReceivedBytesAreThoseOfAllUpstreams(t *testing.T) {
	got, err := received("# HELP shardcast_received_bytes_total Bytes.\n" +
		"shardcast_received_bytes_total{upstream=\"a\"} 1.5e+06\nshardcast_received_bytes_total{upstream=\"b\"} 1\n")
	require.NoError(t, err)
	assert.InDelta(t, 1_500_001.0, got, 0)
	_, err = received("")
	assert.Error(t, err)
}

func TestReadersShareAShard(t *testing.T) {
	bytes := make([]byte, 1000)
	arriving := make(chan struct{})
	var begun atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-arriving
		_, _ = w.Write(bytes)
	}))
	defer srv.Close()
	// Called after the reader has noted when it began.
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotFirstResponseByte: func() {
		if begun.Add(1) == crowd {
			close(arriving)
		}
	}})
	want := shard.Shard{Number: 1, Size: 1000, Digest: shard.Digest(sha256.Sum256(bytes))}
	require.NoError(t, readShared(ctx, srv.URL+"/", want))
	want.Digest[0] ^= 1
	require.ErrorContains(t, readShared(ctx, srv.URL+"/", want), "wrong bytes")
}

func TestReportIsWritten(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, exampleReport().write(dir))
	for _, ext := range []string{"md", "json"} {
		assert.FileExists(t, filepath.Join(dir, "lab-2026-01-02T030405."+ext))
	}
}

func TestRatesAreReadAsTcWritesThem(t *testing.T) {
	for text, want := range map[string]rate{
		"200mbit": 200_000_000, "1gbit": 1_000_000_000, "2.5gbit": 2_500_000_000,
		"500kbit": 500_000, "1Gbit": 1e9, "64000bit": 64_000,
	} {
		var got rate
		require.NoError(t, got.Set(text), text)
		assert.Equal(t, want, got)
		again := got
		require.NoError(t, again.Set(got.String()))
		assert.Equal(t, got, again)
	}
	for _, text := range []string{"", "200", "200mb", "1bit", "-1mbit", "xgbit"} {
		assert.Error(t, new(rate).Set(text), text)
	}
}

func TestTrackerListsToEachNodeTheOthers(t *testing.T) {
	tr := newTracker()
	ask := func(remote, event string) string {
		r := httptest.NewRequest("GET", "/announce?port=6881&event="+event, nil)
		r.RemoteAddr = remote
		w := httptest.NewRecorder()
		tr.ServeHTTP(w, r)
		return w.Body.String()
	}
	const head = "d8:intervali10e12:min intervali10e5:peers"
	assert.Equal(t, head+"0:e", ask("10.177.0.1:4000", "started"))
	assert.Equal(t, head+"6:\x0a\xb1\x00\x01\x1a\xe1e", ask("10.177.0.2:4000", "started"))
	ask("10.177.0.1:5000", "stopped")
	assert.Equal(t, head+"0:e", ask("10.177.0.2:4001", ""))
}

func TestTorrentHasThePiecesOfTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, make([]byte, 300_000), 0o600))
	text, err := torrent(file.File{Name: name, Size: 300_000}, "http://a/b")
	require.NoError(t, err)
	const head = "d8:announce10:http://a/b4:infod6:lengthi300000e4:name1:f12:piece lengthi262144e6:pieces40:"
	assert.True(t, strings.HasPrefix(string(text), head))
	assert.True(t, strings.HasSuffix(string(text), "ee"))
	_, err = torrent(file.File{Name: name + "x"}, "")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestTwoVersionsAloneNeedRoomForTwoAtEachNode(t *testing.T) {
	l := &lab{size: 1 << 30, nodes: []int{2, 8}, middles: 2, second: true, scenarios: updates}
	assert.EqualValues(t, 20<<30+1<<29, l.need())
	l.scenarios = "star," + updates
	assert.EqualValues(t, 29<<30+1<<29, l.need())
}
