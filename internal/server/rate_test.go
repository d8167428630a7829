package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/store"
)

// sink is a reader's end: it takes everything at once and remembers when.
type sink struct {
	header http.Header
	total  int
	took   []taking
}

type taking struct {
	at   time.Time
	size int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}

func (s *sink) Write(p []byte) (int, error) {
	s.total += len(p)
	s.took = append(s.took, taking{time.Now(), len(p)})
	return len(p), nil
}

// site is a handler of one shard of zeros, in simulated time.
type site struct{ *handler }

// limited runs f in a bubble with a shard of size bytes that is served within
// limits.
func limited(t *testing.T, size int64, limits slots.Limits, f func(t *testing.T, s site)) {
	t.Helper()
	serving(t, size, Options{Limits: limits}, f)
}

// serving runs f in a bubble with a shard of size bytes that is served as opts say.
func serving(t *testing.T, size int64, opts Options, f func(t *testing.T, s site)) {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "v1", "shard_001.bin")
	require.NoError(t, os.Mkdir(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	require.NoError(t, os.Truncate(name, size))
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(dir, store.Origin)
		require.NoError(t, err)
		defer st.Close() //nolint:errcheck // of what was only read
		opts.Catalog, opts.Logger = catalog.New(st, nil), slog.New(slog.DiscardHandler)
		h, ok := NewHandler(opts).(*handler)
		require.True(t, ok)
		f(t, site{h})
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Zero(t, site{h}.clients(), "of clients that have long left something is kept")
	})
}

// clients is of how many clients something is known.
func (s site) clients() int {
	_, clients := s.gate.Load()
	return clients
}

// shardOne is the path of the shard.
const shardOne = "/v1/shard_001.bin"

// get has the client at addr read the shard, or a range of it.
func (s site) get(ctx context.Context, addr, byteRange string) *sink {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/shard_001.bin", http.NoBody)
	r.RemoteAddr = addr + ":1234"
	if byteRange != "" {
		r.Header.Set("Range", "bytes="+byteRange)
	}
	w := &sink{header: make(http.Header)}
	s.ServeHTTP(w, r)
	return w
}

// together has each of addrs read the shard at the same time and returns how long
// each one took.
func (s site) together(t *testing.T, size int, addrs ...string) []time.Duration {
	t.Helper()
	start := time.Now()
	took := make([]time.Duration, len(addrs))
	var group sync.WaitGroup
	for i, addr := range addrs {
		group.Go(func() {
			assert.Equal(t, size, s.get(t.Context(), addr, "").total)
			took[i] = time.Since(start)
		})
	}
	group.Wait()
	return took
}

// expected is how long size bytes take at perSecond, of which the bucket held
// burst.
func expected(size, burst, perSecond int64) float64 {
	return float64(size-burst) / float64(perSecond)
}

func TestRateIsKept(t *testing.T) {
	for name, tc := range map[string]struct{ rate, size, burst int64 }{
		"10 kB/s":            {10_000, 100_000, 1024},
		"a byte more a step": {20_481, 200_000, 1024},
		"1 MB/s":             {1_000_000, 10_000_000, 50_000},
		"100 MB/s":           {100_000_000, 100_000_000, 5_000_000},
		"5 GB/s":             {5_000_000_000, 300_000_000, 250_000_000},
		"1 B/s":              {1, 1100, 1024},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for where, limits := range map[string]slots.Limits{
				"all":                   {Rate: tc.rate},
				"one client":            {RatePerClient: tc.rate},
				"all, below one client": {Rate: tc.rate, RatePerClient: 3 * tc.rate},
				"one client, below all": {Rate: 3 * tc.rate, RatePerClient: tc.rate},
			} {
				limited(t, tc.size, limits, func(t *testing.T, s site) {
					took := s.together(t, int(tc.size), "10.0.0.1")[0]
					assert.InEpsilon(t, expected(tc.size, tc.burst, tc.rate), took.Seconds(), 0.001, where)
				})
			}
		})
	}
}

func TestLimitedShardFlowsSteadily(t *testing.T) {
	for _, perSecond := range []int{10_000, 1_000_000, 40_000_000} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			size := 2 * perSecond
			limited(t, int64(size), slots.Limits{Rate: int64(perSecond)}, func(t *testing.T, s site) {
				took := s.get(t.Context(), "10.0.0.1", "").took
				for i := range took[1:] {
					gap := took[i+1].at.Sub(took[i].at)
					assert.LessOrEqual(t, gap.Seconds(), 0.103, "nothing is sent for so long")
					assert.LessOrEqual(t, took[i+1].size, max(perSecond/20, 1024), "too much is sent at once")
				}
			})
		})
	}
}

func TestReadersShareARateFairly(t *testing.T) {
	const perSecond, size = 1_000_000, 2_000_000
	limited(t, size, slots.Limits{Rate: perSecond}, func(t *testing.T, s site) {
		addrs := []string{"10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
		for _, took := range s.together(t, size, addrs...) {
			assert.InEpsilon(t, expected(5*size, 50_000, perSecond), took.Seconds(), 0.05)
		}
	})
}

func TestEachAddressHasItsOwnRate(t *testing.T) {
	const perSecond, size = 1_000_000, 2_000_000
	limited(t, size, slots.Limits{RatePerClient: perSecond}, func(t *testing.T, s site) {
		took := s.together(t, size, "10.0.0.1", "10.0.0.1", "10.0.0.2", "[fe80::1]", "[fe80::2]")
		shared, alone := expected(2*size, 50_000, perSecond), expected(size, 50_000, perSecond)
		for i, want := range []float64{shared, shared, alone, alone, alone} {
			assert.InEpsilon(t, want, took[i].Seconds(), 0.05, "reader %d", i)
		}
	})
}

func TestBothRatesHoldAtOnce(t *testing.T) {
	const perSecond, size = 1_000_000, 2_000_000
	limited(t, size, slots.Limits{Rate: 3 * perSecond, RatePerClient: perSecond}, func(t *testing.T, s site) {
		took := s.together(t, size, "10.0.0.1", "10.0.0.2")
		assert.InEpsilon(t, expected(size, 50_000, perSecond), took[0].Seconds(), 0.01,
			"a client's rate holds where all have more")
		assert.InEpsilon(t, expected(size, 50_000, perSecond), took[1].Seconds(), 0.01)
		took = s.together(t, size, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6")
		for _, took := range took {
			assert.InEpsilon(t, expected(6*size, 150_000, 3*perSecond), took.Seconds(), 0.05,
				"and that of all where they have less")
		}
	})
}

func TestComingBackGainsNothing(t *testing.T) {
	const perSecond = 10_000
	limited(t, perSecond, slots.Limits{RatePerClient: perSecond}, func(t *testing.T, s site) {
		start := time.Now()
		for range 100 {
			require.Equal(t, 1000, s.get(t.Context(), "10.0.0.1", "0-999").total)
		}
		assert.InEpsilon(t, expected(100_000, 1024, perSecond), time.Since(start).Seconds(), 0.001)
	})
}

func TestClientIsForgottenWhenItsBucketIsFull(t *testing.T) {
	const perSecond = 10_000
	limited(t, perSecond, slots.Limits{RatePerClient: perSecond}, func(t *testing.T, s site) {
		s.get(t.Context(), "10.0.0.1", "0-999") // 100 ms worth
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 1, s.clients())
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		assert.Zero(t, s.clients())
	})
	both := slots.Limits{Rate: perSecond, Connections: 1, ConnectionsPerClient: 1}
	limited(t, perSecond, both, func(t *testing.T, s site) {
		s.get(t.Context(), "10.0.0.1", "0-999")
		assert.Zero(t, s.clients(), "without a rate of its own")
	})
}

func TestReaderThatLeavesIsLetGoAtOnce(t *testing.T) {
	for name, limits := range map[string]slots.Limits{
		"all":        {Rate: 1},
		"one client": {RatePerClient: 1},
	} {
		limited(t, 1<<20, limits, func(t *testing.T, s site) {
			start := time.Now()
			begin := func() (leave func()) {
				ctx, cancel := context.WithCancel(t.Context())
				gone := make(chan struct{})
				go func() {
					s.get(ctx, "10.0.0.1", "")
					close(gone)
				}()
				synctest.Wait()
				return func() {
					cancel()
					<-gone
				}
			}
			first, second, third := begin(), begin(), begin()
			second() // it waits behind the first one
			first()
			third()
			assert.Zero(t, time.Since(start), name)
			answers, _ := s.gate.Load()
			assert.Zero(t, answers, name)
		})
	}
}

func TestReadersThatLeaveTakeNothingFromOthers(t *testing.T) {
	const perSecond, size = 100_000, 1_000_000
	limited(t, size, slots.Limits{Rate: perSecond}, func(t *testing.T, s site) {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { s.get(ctx, "10.0.0.1", "") })
		}
		synctest.Wait()
		cancel()
		group.Wait()
		took := s.together(t, size, "10.0.0.2")[0]
		assert.InEpsilon(t, expected(size, 0, perSecond), took.Seconds(), 0.01)
	})
}

func TestAClientThatWaitsForItsOwnRateKeepsNoOtherWaiting(t *testing.T) {
	limited(t, 1<<20, slots.Limits{Rate: 100_000, RatePerClient: 1000}, func(t *testing.T, s site) {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { s.get(ctx, "10.0.0.1", "") })
		}
		synctest.Wait()
		start := time.Now()
		s.get(t.Context(), "10.0.0.2", "0-511")
		assert.Zero(t, time.Since(start))
		cancel()
		group.Wait()
	})
}

func TestOnlyShardsAreSlowedDown(t *testing.T) {
	limited(t, 1<<20, slots.Limits{Rate: 1, RatePerClient: 1}, func(t *testing.T, s site) {
		s.get(t.Context(), "10.0.0.1", "0-1023") // the bucket is empty now
		start := time.Now()
		for _, path := range []string{"/healthz", "/distribution.txt", "/v1/manifest.json"} {
			s.ServeHTTP(&sink{header: make(http.Header)},
				httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, http.NoBody))
		}
		s.ServeHTTP(&sink{header: make(http.Header)},
			httptest.NewRequestWithContext(t.Context(), http.MethodHead, "http://localhost"+shardOne, http.NoBody))
		assert.Zero(t, time.Since(start))
	})
}

// It is to tell how fast shards will come.
func TestProbeIsSentAtTheRateOfShards(t *testing.T) {
	limited(t, 1, slots.Limits{RatePerClient: 1_000_000}, func(t *testing.T, s site) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/py03/data1.bin", http.NoBody)
		start := time.Now()
		s.ServeHTTP(&sink{header: make(http.Header)}, r)
		assert.InEpsilon(t, expected(1_000_000, 50_000, 1_000_000), time.Since(start).Seconds(), 0.001)
	})
}

// kernel is a [http.ResponseWriter] that sees what it is to copy from.
type kernel struct {
	sink

	src io.Reader
}

func (k *kernel) ReadFrom(src io.Reader) (int64, error) {
	k.src = src
	return io.Copy(&k.sink, src)
}

// Where there is an [os.File] below an [io.LimitedReader], the kernel sends it, also what
// is counted and logged.
func TestWithoutARateTheKernelSendsShards(t *testing.T) {
	for name, limits := range map[string]slots.Limits{
		"no limits":          {},
		"number of requests": {Connections: 1, ConnectionsPerClient: 1},
	} {
		opts := Options{Limits: limits, Metrics: metrics.New("origin", ""), AccessLog: io.Discard}
		serving(t, 6<<20, opts, func(t *testing.T, s site) {
			w := &kernel{sink: sink{header: make(http.Header)}}
			s.ServeHTTP(w,
				httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+shardOne, http.NoBody))
			assert.Equal(t, 6<<20, w.total)
			src, ok := w.src.(*io.LimitedReader)
			require.True(t, ok, name)
			assert.IsType(t, (*os.File)(nil), src.R, name)
		})
	}
}
