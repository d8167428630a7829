package middle_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/middle"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// slowSite is a site of one version with one shard, which it sends piece by piece.
type slowSite struct {
	site *site
	data []byte
	more chan int // the offset up to which the site sends next
}

const bigShard = 4 * relay.HeldBack

func newSlowSite(t *testing.T) *slowSite {
	t.Helper()
	s := &slowSite{data: content(9, bigShard), more: make(chan int)}
	s.site = newSiteOf(t, bigShard, s.data)
	s.site.spoilPath("/v1/shard_001.bin", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			http.Error(w, "only once", http.StatusTooManyRequests)
			return
		}
		at := 0
		for at < len(s.data) {
			select {
			case to := <-s.more:
				_, _ = w.Write(s.data[at:to])
				_ = http.NewResponseController(w).Flush()
				at = to
			case <-r.Context().Done():
				return
			}
		}
	})
	return s
}

// open requests the first shard of version 1 from n, and returns the body of the answer.
func (n *node) open(t *testing.T) io.Reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/v1/shard_001.bin", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp.Body
}

// read asserts that all bodies go on with the bytes of s from one offset to another.
func (s *slowSite) read(t *testing.T, bodies []io.Reader, from, to int) {
	t.Helper()
	for _, body := range bodies {
		got := make([]byte, to-from)
		_, err := io.ReadFull(body, got)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(s.data[from:to], got), "wrong bytes")
	}
}

func TestMiddlesPassAShardOnWhileItArrives(t *testing.T) {
	t.Parallel()
	s := newSlowSite(t)
	var nodes []*node
	upstream := s.site.URL
	for range 3 {
		one := fetch.Options{Concurrency: 1} // no worker is idle and takes over the end, which would be a Range
		n := runBy(t, middle.Options{}, one, t.TempDir(), upstream)
		n.log.await(t, "msg=arriving", "version=v1")
		nodes = append(nodes, n)
		upstream = n.url
	}
	assert.Equal(t, []string{"v1"}, nodes[2].versions(t))
	s.more <- 100
	var bodies []io.Reader
	for range 20 {
		bodies = append(bodies, nodes[2].open(t))
	}
	s.read(t, bodies, 0, 100)
	s.more <- 100_000
	s.read(t, bodies, 100, 100_000)
	s.more <- bigShard
	s.read(t, bodies, 100_000, bigShard)
	for _, n := range nodes {
		n.log.await(t, "msg=fetched", "version=v1")
		n.assertServes(t, "v1", s.data)
	}
	assert.Len(t, s.site.asked("/v1/shard_"), 1)
}

func TestTheFirstShardHoldsUpNoReaderOfOthers(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]fetch.Options{"alone": {}, "in a swarm without peers": {Swarm: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := content(9, 4*bigShard)
			s := newSiteOf(t, bigShard, data)
			late := make(chan struct{})
			s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == "/v1/shard_001.bin" {
					select {
					case <-late:
					case <-r.Context().Done():
						return
					}
				}
				next.ServeHTTP(w, r)
			})
			n := runBy(t, middle.Options{}, by, t.TempDir(), s.URL)
			n.log.await(t, "msg=arriving", "version=v1")
			tooLate := time.AfterFunc(5*time.Second, func() { close(late) })
			for _, number := range []int{3, 2, 4} {
				status, got := n.get(t, "/v1/"+shard.FileName(number))
				require.Equal(t, http.StatusOK, status)
				assert.True(t, bytes.Equal(data[(number-1)*bigShard:number*bigShard], got), "shard %d", number)
			}
			require.True(t, tooLate.Stop(), "a reader has waited for the first shard")
			close(late)
			n.log.await(t, "msg=fetched", "version=v1")
			n.assertServes(t, "v1", data)
		})
	}
}
