package fetch_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
)

// tracker is an origin with a swarm, which counts the bytes of shards that it sends.
type tracker struct {
	*httptest.Server

	sent atomic.Int64 // bytes
}

func newTracker(t *testing.T, data []byte, shardSize, rate int64) *tracker {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	path := filepath.Join(t.TempDir(), "weights.bin")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	logger := slog.New(slog.DiscardHandler)
	_, err = origin.New(st, shardSize, 100, logger).Broadcast(t.Context(), path)
	require.NoError(t, err)
	members := swarm.NewMembers(swarm.MembersOptions{Probe: server.Reach, Logger: logger})
	t.Cleanup(members.Close)
	handler := server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil), Logger: logger, Members: members,
		Limits: slots.Limits{Rate: rate},
	})
	o := new(tracker)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/shard_") {
			w = countingWriter{w, &o.sent}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

type countingWriter struct {
	http.ResponseWriter

	sent *atomic.Int64
}

func (w countingWriter) Write(data []byte) (int, error) {
	n, err := w.ResponseWriter.Write(data)
	w.sent.Add(int64(n))
	return n, err
}

func (w countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// node is one that passes on shards while they arrive.
type node struct {
	*httptest.Server

	pool  *fetch.Pool
	board *relay.Board
	sink  memory

	arriving *relay.Version // opened last
}

func newNode(t *testing.T, o *tracker) *node {
	t.Helper()
	n := &node{board: relay.NewBoard()}
	n.Server = httptest.NewServer(server.NewHandler(server.Options{
		Catalog: catalog.New(nil, n.board),
		Logger:  slog.New(slog.DiscardHandler),
	}))
	at, err := url.Parse(o.URL)
	require.NoError(t, err)
	n.pool, err = fetch.New(fetch.Options{Upstreams: []*url.URL{at}, Swarm: true})
	require.NoError(t, err)
	ctx, leave := context.WithCancel(t.Context())
	var swarming sync.WaitGroup
	swarming.Go(func() { n.pool.Swarm(ctx, n.Listener.Addr(), nil) })
	t.Cleanup(func() {
		leave()
		swarming.Wait()
		n.pool.Close()
		n.CloseClientConnections()
		n.Close()
	})
	return n
}

// relaying is a sink from which others read arriving shards.
type relaying struct {
	*memory

	version *relay.Version
}

func (n *node) open(_ context.Context, m fetch.Manifest) (fetch.Sink, error) {
	e := distfile.Entry{Version: 1, Digest: m.Stated.Digest}
	v := n.board.Begin(e, m.Stated, m.Tier, func(number int) (relay.File, error) {
		return file{io.NewSectionReader(n.sink.shard(number), 0, m.Stated.Shard(number).Size)}, nil
	})
	n.board.List(e)
	n.arriving = v
	return relaying{&n.sink, v}, nil
}

type file struct{ *io.SectionReader }

func (file) Close() error { return nil }

func (r relaying) Open(s shard.Shard) (fetch.Place, error) {
	place, err := r.memory.Open(s)
	if err != nil {
		return nil, err
	}
	return r.version.Tee(s.Number, place), nil
}

// fetch fetches the version, and then serves it until the test ends.
func (n *node) fetch(ctx context.Context) error {
	if err := n.pool.Refresh(ctx, fetch.Soon); err != nil {
		return err
	}
	_, _, err := n.pool.Fetch(ctx, fetch.Task{
		Entry: n.pool.Offers()[0], Open: n.open, Audience: func() fetch.Audience { return n.arriving },
	})
	return err
}

func TestAnOriginSendsASwarmEachShardAboutOnce(t *testing.T) {
	const size, nodes, rate = 6 * megabyte, 5, 3 * megabyte
	data := content(1, size)
	o := newTracker(t, data, size/96, rate)
	var all []*node
	for range nodes {
		all = append(all, newNode(t, o))
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.URL+"/peers.txt", http.NoBody)
		require.NoError(c, err)
		resp, err := client.Do(r)
		require.NoError(c, err)
		defer resp.Body.Close()
		list, err := io.ReadAll(resp.Body)
		require.NoError(c, err)
		assert.Equal(c, nodes, strings.Count(string(list), "\n"))
	}, time.Minute, 50*time.Millisecond)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, n := range all {
			assert.Equal(c, nodes-1, n.pool.Neighbours())
		}
	}, time.Minute, 50*time.Millisecond)
	start := time.Now()
	var fetches sync.WaitGroup
	for _, n := range all {
		fetches.Go(func() { assert.NoError(t, n.fetch(t.Context())) })
	}
	fetches.Wait()
	took := time.Since(start)
	for _, n := range all {
		assert.Equal(t, digestOf(data), digestOf(n.sink.bytes()))
	}
	copies := float64(o.sent.Load()) / size
	t.Logf("took %v, alone it is %v for each; the origin sent %.2f files", took, time.Duration(size/rate)*time.Second,
		copies)
	assert.LessOrEqual(t, copies, 1.5, "files that the origin has sent")
	late := newNode(t, o)
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Equal(c, nodes, late.pool.Neighbours()) }, time.Minute,
		50*time.Millisecond)
	before := o.sent.Load()
	require.NoError(t, late.fetch(t.Context()))
	assert.Equal(t, digestOf(data), digestOf(late.sink.bytes()))
	more := float64(o.sent.Load()-before) / size
	t.Logf("the origin sent %.3f files more to a late node", more)
	assert.LessOrEqual(t, more, 0.3, fmt.Sprint("of a file, for a node that comes when ", nodes, " have it"))
}
