package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
	"github.com/shardcast/shardcast/internal/store"
)

// newStatusSite serves st and board, which may be nil, with a status page.
func newStatusSite(t *testing.T, st *store.Store, board *relay.Board) site {
	t.Helper()
	return newSiteAs(t, server.Options{
		Catalog: catalog.New(st, board), Metrics: metrics.New("origin", "v9"),
		Status: &server.Status{Role: "origin", Build: "v9"},
	})
}

// status returns /status.json.
func (s site) status(t *testing.T) status.Status {
	t.Helper()
	got := s.get(t, "/status.json")
	require.Equal(t, 200, got.status, got.body)
	var all status.Status
	require.NoError(t, json.Unmarshal([]byte(got.body), &all))
	return all
}

func TestStatusListsHeldVersions(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	publish(t, st, 1, "")
	m := publish(t, st, 2, "0123456789abcdef")
	large(t, dir, 3, 1000)
	write(t, filepath.Join(dir, "v3", "shard_004.bin"), "x")
	three, four := strings.Repeat("3", 64), strings.Repeat("4", 64)
	write(t, filepath.Join(dir, "distribution.txt"),
		"v1: "+strings.Repeat("1", 64)+"\nv2: "+m.Digest.String()+"\nv3: "+three+"\nv4: "+four+"\n")
	got := newStatusSite(t, st, nil).status(t)
	assert.Equal(t, "origin", got.Role)
	assert.Equal(t, "v9", got.Build)
	assert.True(t, got.Ready)
	assert.WithinDuration(t, time.Now(), got.Time, time.Minute)
	assert.WithinDuration(t, time.Now(), got.Started, time.Minute)
	require.Len(t, got.Versions, 4)
	assert.Equal(t, status.Version{Version: "v4", State: status.Damaged, Digest: four}, got.Versions[0],
		"listed, and absent from the disk")
	assert.Equal(t, status.Version{
		Version: "v3", State: status.Damaged, Digest: three, ShardCount: 4, Here: 2, Missing: 2,
		Cells: []status.Cell{{Shards: 1, Here: 1}, {Shards: 2}, {Shards: 1, Here: 1}},
	}, got.Versions[1], "without a manifest")
	size := int64(16)
	assert.Equal(t, status.Version{
		Version: "v2", State: status.Here, Name: "file.bin", Date: m.Date, ShardSize: 10, Digest: m.Digest.String(),
		Size: &size, Done: &size, ShardCount: 2, Here: 2, Cells: []status.Cell{{Shards: 2, Here: 2}},
	}, got.Versions[2])
	assert.Equal(t, status.Here, got.Versions[3].State, "an empty file has no shards, and misses none")
	assert.Zero(t, got.MoreVersions)
	assert.Positive(t, got.Disk.Used)
	assert.Empty(t, got.Downloads)
	assert.Nil(t, got.Throughput.Received, "an origin receives no shards")
}

func TestStatusSeesAShardThatIsTakenAway(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	publish(t, st, 1, "0123456789abcdef")
	s := newStatusSite(t, st, nil)
	require.Equal(t, status.Here, s.status(t).Versions[0].State)
	require.NoError(t, os.Remove(filepath.Join(dir, "v1", "shard_002.bin")))
	require.Eventually(t, func() bool {
		return s.status(t).Versions[0].State == status.Damaged
	}, patience, 50*time.Millisecond)
	v := s.status(t).Versions[0]
	assert.Equal(t, []status.Cell{{Shards: 1, Here: 1}, {Shards: 1}}, v.Cells)
	assert.EqualValues(t, 10, *v.Done)
}

func TestStatusListsArrivingVersions(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "0123456789")
	board := relay.NewBoard()
	m := shard.Manifest{
		Name: "new.bin", Size: 35, ShardSize: 10, Digest: shard.Digest{7}, Shards: make([]shard.Digest, 4),
	}
	v := board.Begin(distfile.Entry{Version: 7, Digest: m.Digest}, m, 1, nil)
	board.List(v.Entry)
	board.List(distfile.Entry{Version: 1, Digest: shard.Digest{1}}) // it replaces the held one
	v.Shard(1).Verify()
	v.Shard(2).Begin()
	v.Shard(2).Wrote(disk.Range{To: 4})
	v.Shard(4).Verify()
	got := newStatusSite(t, st, board).status(t).Versions
	require.Len(t, got, 2)
	size, done := int64(35), int64(19)
	assert.Equal(t, status.Version{
		Version: "v7", State: status.Arriving, Name: "new.bin", ShardSize: 10, Digest: m.Digest.String(),
		Size: &size, Done: &done, ShardCount: 4, Here: 2, Arriving: 1, Missing: 1,
		Cells: []status.Cell{
			{Shards: 1, Here: 1}, {Shards: 1, Arriving: 1, Part: 0.4}, {Shards: 1}, {Shards: 1, Here: 1},
		},
	}, got[0])
	assert.Equal(t, status.Version{Version: "v1", State: status.Waiting, Digest: shard.Digest{1}.String()}, got[1])
}

func TestStatusShowsTheNewestVersionsAndCountsTheOthers(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	var lines strings.Builder
	for v := range status.MaxVersions + 7 {
		fmt.Fprintf(&lines, "v%d: %064d\n", v+1, v)
	}
	write(t, filepath.Join(dir, "distribution.txt"), lines.String())
	got := newStatusSite(t, st, nil).status(t)
	assert.Len(t, got.Versions, status.MaxVersions)
	assert.Equal(t, "v57", got.Versions[0].Version)
	assert.Equal(t, 7, got.MoreVersions)
}

func TestStatusListsDownloads(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	large(t, dir, 1, 1<<30) // more than the system buffers for a reader
	s := newStatusSite(t, st, nil)
	s.get(t, "/v9/shard_001.bin") // absent, so not sent
	s.ask(t, http.MethodHead, "/v1/shard_001.bin")
	assert.Empty(t, s.status(t).Downloads)

	conn := dial(t, strings.TrimPrefix(s.url, "http://"))
	_, err := conn.Write([]byte("GET /v1/shard_001.bin HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 32<<20))
	require.NoError(t, err)
	var got status.Status
	require.Eventually(t, func() bool {
		got = s.status(t)
		return len(got.Downloads) == 1 && got.Downloads[0].Sent >= 30<<20
	}, patience, 50*time.Millisecond)
	d := got.Downloads[0]
	assert.Equal(t, "127.0.0.1", d.Client)
	assert.Equal(t, "v1", d.Version)
	assert.Equal(t, 1, d.Transfers)
	assert.Less(t, d.Sent, int64(1<<30))
	assert.Positive(t, d.Speed)
	assert.WithinDuration(t, time.Now(), d.Since, time.Minute)
	assert.Positive(t, got.Throughput.Sent)
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool {
		return len(s.status(t).Downloads) == 0
	}, patience, 50*time.Millisecond, "the client has left")
}

func TestStatusPageIsSentWithStrictHeaders(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "0123456789")
	s := newStatusSite(t, st, nil)
	for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/status.json": "application/json"} {
		got, head := s.get(t, path), s.ask(t, http.MethodHead, path)
		assert.Equal(t, 200, got.status)
		assert.Equal(t, 200, head.status)
		assert.Empty(t, head.body)
		for _, a := range []answer{got, head} {
			assert.Equal(t, kind, a.header.Get("Content-Type"))
			assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
			assert.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
			assert.Equal(t, "no-referrer", a.header.Get("Referrer-Policy"))
			assert.Empty(t, a.header.Get("Access-Control-Allow-Origin"), "scripts of another site may read it")
		}
		assert.Equal(t, 405, s.ask(t, http.MethodPost, path).status)
	}
	assert.Equal(t, status.Policy(), s.get(t, "/").header.Get("Content-Security-Policy"))
}

func TestStatusHasTwoPathsAlone(t *testing.T) {
	s := newStatusSite(t, open(t, t.TempDir()), nil)
	for _, path := range []string{
		"/index.html", "/status.json/", "/status", "/py01/", "/py03", "/py03/status.json",
		"/v1/", "/v1/status.json", "//", "//status.json", "/%2f", "/./",
	} {
		assert.Equal(t, 404, s.raw(t, http.MethodGet, path).status, path)
	}
	assert.Equal(t, 200, s.get(t, "/?utm=1").status)
}

func TestAServerWithoutAStatusHasNoPage(t *testing.T) {
	s := newSiteAs(t,
		server.Options{Catalog: catalog.New(open(t, t.TempDir()), nil), Metrics: metrics.New("origin", "")})
	assert.Equal(t, 404, s.get(t, "/").status)
	assert.Equal(t, 404, s.get(t, "/status.json").status)
}

func TestStatusEscapesHostileNamesAndErrors(t *testing.T) {
	const evil = `<script>alert(1)</script>"onload="x`
	st := open(t, t.TempDir())
	board := relay.NewBoard()
	hostile := shard.Manifest{
		Name: evil, Size: 1, ShardSize: 1, Digest: shard.Digest{1}, Shards: make([]shard.Digest, 1),
	}
	board.Begin(distfile.Entry{Version: 1, Digest: hostile.Digest}, hostile, 1, nil)
	m := metrics.New("middle", "")
	m.Follow([]string{"http://a"}, func() []metrics.Upstream { return make([]metrics.Upstream, 1) })
	upstreams := func() []status.Upstream {
		return []status.Upstream{{Upstream: "http://a", State: "failing", Error: evil}}
	}
	s := newSiteAs(t, server.Options{
		Catalog: catalog.New(st, board), Metrics: m, Status: &server.Status{Role: "middle", Upstreams: upstreams},
	})
	page := strings.ReplaceAll(s.get(t, "/").body, "<wbr>", "")
	assert.Equal(t, 1, strings.Count(page, "<script"))
	assert.Equal(t, 2, strings.Count(page, "&lt;script&gt;alert(1)&lt;/script&gt;&#34;onload=&#34;x"))
	assert.Equal(t, evil, s.status(t).Versions[0].Name)
	assert.Equal(t, evil, s.status(t).Upstreams[0].Error)
}

func TestStatusComputesSharesFromTheMetrics(t *testing.T) {
	m := metrics.New("middle", "")
	m.Follow([]string{"http://a", "http://b"}, func() []metrics.Upstream { return make([]metrics.Upstream, 2) })
	upstreams := func() []status.Upstream { return make([]status.Upstream, 2) }
	opts := server.Options{
		Catalog: catalog.New(open(t, t.TempDir()), nil), Metrics: m,
		Status: &server.Status{Role: "middle", Upstreams: upstreams},
	}
	s := newSiteAs(t, opts)
	for _, u := range s.status(t).Upstreams {
		assert.Zero(t, u.Share, "of no bytes")
	}
	s = newSiteAs(t, opts)
	m.Received(0, 3000)
	m.Received(1, 1000)
	got := s.status(t)
	assert.EqualValues(t, 3000, got.Upstreams[0].Received)
	assert.InDelta(t, 0.75, got.Upstreams[0].Share, 1e-9)
	assert.InDelta(t, 0.25, got.Upstreams[1].Share, 1e-9)
	assert.Positive(t, got.Upstreams[1].Speed)
	assert.Equal(t, got.Upstreams[0].Speed+got.Upstreams[1].Speed, *got.Throughput.Received)
	opts.Status = &server.Status{}
	assert.NotNil(t, newSiteAs(t, opts).status(t).Throughput.Received, "without a list of upstreams")
}

func TestStatusIsCountedAsAKindOfItsOwn(t *testing.T) {
	m := metrics.New("origin", "")
	s := newSiteAs(t,
		server.Options{Catalog: catalog.New(open(t, t.TempDir()), nil), Metrics: m, Status: &server.Status{}})
	s.get(t, "/")
	s.get(t, "/status.json")
	has(t, m, `shardcast_http_requests_total{code="200",kind="status"}`, "2")
}

func TestStatusOfAnUnreadableDirectoryIsAnError(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "distribution.txt"), 0o755))
	assert.Equal(t, 500, newStatusSite(t, st, nil).get(t, "/").status)
}

// The status of a version with the most shards is small.
func TestStatusOfManyShardsIsSmall(t *testing.T) {
	st := open(t, t.TempDir())
	board := relay.NewBoard()
	m := shard.Manifest{
		Size: shard.MaxShards, ShardSize: 1, Digest: shard.Digest{1}, Shards: make([]shard.Digest, shard.MaxShards),
	}
	v := board.Begin(distfile.Entry{Version: 1, Digest: m.Digest}, m, 1, nil)
	for i := 1; i <= shard.MaxShards; i += 3 {
		v.Shard(i).Verify()
	}
	s := newStatusSite(t, st, board)
	assert.Less(t, len(s.get(t, "/").body), 100<<10)
	got := s.status(t).Versions[0]
	assert.LessOrEqual(t, len(got.Cells), status.MaxCells)
	assert.Equal(t, (shard.MaxShards+2)/3, got.Here)
	assert.Equal(t, shard.MaxShards, got.Here+got.Missing)
	assert.True(t, slices.ContainsFunc(got.Cells, func(c status.Cell) bool { return c.Shards > 300 }))
}
