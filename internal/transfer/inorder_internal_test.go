package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/verify"
)

// paced returns a pace of ticks: so many of so many bytes each.
func paced(ticks, bytes int64) (p rank.Pace) {
	for range ticks {
		p.Add(bytes)
	}
	return p
}

// running is a transfer of one shard, of which the pull, from the server A, is under way.
// The server B is idle.
type running struct {
	*landing

	plan *InOrder
	pull *pull
	why  error // why the pull was given up
	may  map[*remote.Server]bool
}

// run begins a pull of so many bytes with a pace, which A alone may have sent.
func run(t *testing.T, left int64, p rank.Pace) *running {
	t.Helper()
	size := min(left, 1<<20)
	l, err := land(make([]byte, size), 2, &slate{data: make([]byte, size)})
	require.NoError(t, err)
	l.arrival.spans[0].to = left
	r := &running{landing: l, may: map[*remote.Server]bool{l.servers[0]: true}}
	r.plan = NewInOrder(l.Transfer, time.Hour, 1, func(do func(*remote.Server) error) roster.Job {
		return roster.Job{May: func(s *remote.Server) bool { return r.may[s] }, Do: do}
	})
	r.pull = r.add(l.arrival.spans[0], l.servers[0], p)
	r.pull.cancel = func(err error) { r.why = err }
	return r
}

// add begins one more pull of a span.
func (r *running) add(s *Span, from *remote.Server, p rank.Pace) *pull {
	o := &pull{span: s, server: from, to: s.to, pace: p, cancel: ignore}
	o.received.Store(int64(p.Speed()))
	s.pulls = append(s.pulls, o)
	r.pulls.add(o)
	return o
}

// beside begins a pull of another span.
func (r *running) beside(from *remote.Server, p rank.Pace) *pull {
	return r.add(&Span{arrival: r.arrival, to: 1}, from, p)
}

// ended notes pulls from B that have ended.
func (r *running) ended(speeds ...float64) {
	for _, speed := range speeds {
		r.pulls.ended = append(r.pulls.ended, delivery{r.servers[1], speed})
	}
}

// view returns the pull as the plan sees it.
func (r *running) view(t *testing.T) Pull {
	t.Helper()
	for _, o := range r.Pulls() {
		if o.pull == r.pull {
			return o
		}
	}
	require.Fail(t, "the pull is not under way")
	return Pull{}
}

// isSlow reports whether the pull is given up at this tick.
func (r *running) isSlow() bool {
	r.plan.Tick()
	if r.why != nil {
		r.pull.given = false
	}
	return errors.Is(r.why, ErrSlow)
}

// speed makes the throughput of a server known.
func (r *running) speed(s *remote.Server, bytesPerSecond float64) {
	r.opts.Roster.Delivered(s, int64(bytesPerSecond*1000), 1000*time.Second)
}

// occupy has a server at work until the test ends.
func (r *running) occupy(t *testing.T, s *remote.Server) {
	t.Helper()
	begun, end := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		_, _, _ = r.opts.Roster.Attempt(context.Background(), roster.Job{First: s, Do: func(*remote.Server) error {
			close(begun)
			<-end
			return nil
		}})
	})
	<-begun
	t.Cleanup(func() {
		close(end)
		group.Wait()
	})
}

// loseRanges has a server answer a request for a range with all.
func loseRanges(t *testing.T, s *remote.Server) {
	t.Helper()
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("all"))
	}))
	defer whole.Close()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, whole.Listener.Addr().String())
	}
	client := remote.New(remote.Options{Timeout: time.Minute, Dial: dial})
	defer client.Close()
	body, err := client.Get(t.Context(), s, remote.Request{Want: disk.Range{From: 1, To: 2}})
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.True(t, s.Rangeless())
}

// Where many pulls stall, it may be their server that does.
func TestAPullIsComparedWithOtherServersFirst(t *testing.T) {
	r := run(t, 1<<30, paced(20, 0))
	for range 9 {
		r.beside(r.servers[0], paced(20, 0))
	}
	require.False(t, r.isSlow(), "all are as slow")
	r.ended(1000)
	require.True(t, r.isSlow())
}

func TestPatienceWithASpanDoublesEachTimeAPullIsGivenUp(t *testing.T) {
	for crawls, want := range []int64{20, 40, 80, 160, 320, 640, 640, 640} {
		r := run(t, 1<<30, paced(want-2, 0))
		r.pull.span.crawls = crawls
		r.ended(1 << 20)
		r.pull.pace.Add(0)
		require.False(t, r.isSlow(), "%d crawls, a tick before", crawls)
		r.pull.pace.Add(0)
		require.True(t, r.isSlow(), "%d crawls", crawls)
		assert.Equal(t, crawls+1, r.pull.span.crawls)
	}
}

func TestAPullIsComparedWithOthersThatAreKnown(t *testing.T) {
	for name, tc := range map[string]struct {
		ended  []float64
		beside []rank.Pace
		want   bool
	}{
		"none":                    {nil, nil, false},
		"one that ended":          {[]float64{1000}, nil, true},
		"one that is too young":   {nil, []rank.Pace{paced(3, 1<<30)}, false},
		"one that is just known":  {nil, []rank.Pace{paced(4, 1<<30)}, true},
		"most are as slow":        {nil, []rank.Pace{paced(4, 1<<30), paced(4, 0), paced(4, 0)}, false},
		"those that ended do not": {[]float64{1000, 1000, 1000}, []rank.Pace{paced(4, 0), paced(4, 0)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, 1<<30, paced(20, 0))
			r.ended(tc.ended...)
			for _, p := range tc.beside {
				r.beside(r.servers[1], p)
			}
			assert.Equal(t, tc.want, r.isSlow())
		})
	}
}

func TestTheLastPullsThatEndedAreRemembered(t *testing.T) {
	r := run(t, 1<<30, paced(20, 1))
	for i := range remembered + 3 {
		o := r.beside(r.servers[1], paced(1, 0))
		o.received.Store(int64(i) * 1000)
		r.pulls.remove(o, time.Second, r.opts.Roster)
	}
	others := r.view(t).Others
	require.Len(t, others, remembered)
	assert.InDelta(t, 3000, others[0], 1e-9, "those before are forgotten")
	assert.Positive(t, r.opts.Roster.Throughput(r.servers[1]), "a pull that ended before it was sampled is a sample")
}

func TestHelpTakesAShareOfTheMissingBytes(t *testing.T) {
	const speed = 4000. // of the pull, in bytes per second
	for name, tc := range map[string]struct {
		left  int64
		rate  float64 // of the server that helps, 0 for not known
		want  int64   // bytes that are split off
		raced bool
	}{
		"equally fast":                  {1 << 20, speed, 1 << 19, false},
		"not known is equally fast":     {1 << 20, 0, 1 << 19, false},
		"three times as fast":           {1 << 20, 3 * speed, 3 << 18, false},
		"a third as fast":               {1 << 20, speed / 3, 1 << 18, false},
		"very much faster leaves 64 Ki": {1 << 20, 1e12, 1<<20 - minSplit, false},
		"exactly two times the least":   {2 * minSplit, speed, minSplit, false},
		"a byte less":                   {2*minSplit - 1, speed, 0, false},
		"a byte less, but fast":         {2*minSplit - 1, 2*speed + 1, 0, true},
		"and just not fast":             {2*minSplit - 1, 2 * speed, 0, false},
		"all is split before it raced":  {2 * minSplit, 1e12, minSplit, false},
		"one byte":                      {1, 1e12, 0, true},
		"a slow one's share is too low": {1 << 20, speed / 15.1, 0, false},
		"and here it is just enough":    {1 << 20, speed / 14.9, 65948, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, tc.left, paced(20, 1000))
			r.opts.Manifest.Size = 1 << 30
			r.may[r.servers[1]] = true
			if tc.rate > 0 {
				r.speed(r.servers[1], tc.rate)
			}
			j := r.plan.helpWith(r.view(t))
			switch {
			case tc.raced:
				require.Len(t, j.Spans, 1)
				assert.Same(t, r.pull.span, j.Spans[0])
				assert.Equal(t, tc.left, r.plan.raced.Load())
				assert.Equal(t, 1, r.arrival.pending)
			case tc.want == 0:
				assert.Nil(t, j.Shard)
				assert.Equal(t, 1, r.arrival.pending)
			default:
				require.Len(t, j.Spans, 1)
				s := j.Spans[0]
				assert.Same(t, r.arrival, j.Shard)
				assert.InDelta(t, tc.want, s.to-s.at, 1)
				assert.Equal(t, tc.left, s.to)
				assert.Equal(t, s.at, r.pull.span.to, "one brings the bytes that the other does not")
				assert.Equal(t, 2, r.arrival.pending)
				assert.Zero(t, r.plan.raced.Load())
			}
		})
	}
}

// A server that is late with the first byte is not asked again and again for all but a little.
func TestAPullThatIsSilentLosesThePartThatFitsItsServer(t *testing.T) {
	const usual = 4000. // throughput of the server of the pull, in bytes per second
	for name, tc := range map[string]struct {
		usual, rate float64 // of the server that helps; 0 for not known
		want        int64
	}{
		"neither is known":           {0, 0, 1 << 19},
		"the one that helps":         {0, 1e12, 1 << 19},
		"the silent one":             {usual, 0, 1 << 19},
		"the one that helps is fast": {usual, 3 * usual, 3 << 18},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, 1<<20, paced(20, 0))
			for i, rate := range []float64{tc.usual, tc.rate} {
				if rate > 0 {
					r.speed(r.servers[i], rate)
				}
			}
			assert.Nil(t, r.plan.help().Shard, "its own server would begin anew")
			r.may[r.servers[1]] = true
			j := r.plan.help()
			require.Len(t, j.Spans, 1)
			assert.InDelta(t, tc.want, j.Spans[0].to-j.Spans[0].at, 1)
		})
	}
}

func TestRacesBringNoMoreThanATwentiethTwice(t *testing.T) {
	r := run(t, 50_000, paced(20, 1))
	r.opts.Manifest.Size = 2_000_000
	r.speed(r.servers[0], 1e9)
	for range 2 {
		assert.NotNil(t, r.plan.helpWith(r.view(t)).Shard)
	}
	assert.Nil(t, r.plan.helpWith(r.view(t)).Shard, "a third race would bring 150 kB of 2 MB twice")
	assert.Equal(t, int64(100_000), r.plan.raced.Load())
}

func TestHelpIsNotGiven(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, r *running){
		"to a pull that is raced already": func(_ *testing.T, r *running) {
			r.add(r.pull.span, r.servers[1], paced(2, 1000))
		},
		"where nothing is left": func(_ *testing.T, r *running) { r.pull.span.at = r.pull.span.to },
		"by a server that knows no ranges": func(t *testing.T, r *running) {
			loseRanges(t, r.servers[0])
		},
		"by a server that may not be asked":       func(_ *testing.T, r *running) { r.may = nil },
		"to a pull whose pace is not known":       func(_ *testing.T, r *running) { r.pull.pace = paced(1, 1000) },
		"to a pull that was given up":             func(_ *testing.T, r *running) { r.pull.given = true },
		"to a pull that is over in half a second": func(_ *testing.T, r *running) { r.pull.pace = paced(20, 1<<19+1) },
		"by a server that is busy": func(_ *testing.T, r *running) {
			_, _, _ = r.opts.Roster.Attempt(context.Background(), roster.Job{
				First: r.servers[0], May: func(*remote.Server) bool { return false }, Logger: r.opts.Logger,
				Do: func(*remote.Server) error { return &remote.Busy{Err: remote.ErrSilent, Wait: time.Second} },
			})
		},
		"where one server has to send all": func(t *testing.T, r *running) {
			for i, s := range r.servers {
				o, _ := r.arrival.spans[0].join(s, true, ignore)
				half := int64(1 << 19)
				_, _, err := o.span.take(o, int64(i)*half, noise(9, int(half)))
				require.NoError(t, err)
				o.span.leave(o)
			}
			require.Len(t, r.finish(t.Context(), r.arrival, make([]byte, 1<<20)).Wrong, 1)
			require.True(t, r.arrival.isAlone())
			r.pull.span = r.arrival.spans[0]
			r.pull.span.pulls = []*pull{r.pull}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, 1<<20, paced(2, 1000))
			require.NotNil(t, r.plan.help().Shard)
			r = run(t, 1<<20, paced(2, 1000))
			change(t, r)
			assert.Nil(t, r.plan.help().Shard)
		})
	}
}

func TestHelpGoesToThePullThatTakesLongest(t *testing.T) {
	r := run(t, 1<<20, paced(20, 1000))
	longer := r.arrival.add(0, 1<<20)
	r.add(longer, r.servers[0], paced(20, 10))
	j := r.plan.help()
	require.Len(t, j.Spans, 1)
	assert.Equal(t, longer.to, j.Spans[0].at)
}

func TestOverALongWayASpanIsFittedToTheRest(t *testing.T) {
	const mega = 1 << 20
	for name, tc := range map[string]struct {
		span, beside int64 // bytes that are left
		speed        float64
		near         bool
		paces        []rank.Pace // of pulls that are under way, of which each worker has one
		want         int64       // bytes that stay
	}{
		"half of its part":     {16 * mega, 16 * mega, mega, false, []rank.Pace{paced(20, 3*mega/4)}, 4 * mega},
		"much is left besides": {4 * mega, 64 * mega, mega, false, []rank.Pace{paced(20, mega/4)}, 4 * mega},
		"one is new": {
			16 * mega, 16 * mega, mega, false, []rank.Pace{paced(KnownAfter-1, mega)}, 8 * mega,
		},
		"a tick's bytes at least": {16 * mega, 0, 16 * mega, false, []rank.Pace{paced(20, 400*mega)}, 4 * mega},
		"or 64 Ki":                {mega, 0, 1, false, []rank.Pace{paced(20, mega)}, minSplit},
		"the end is too little":   {6 * mega, 0, 16 * mega, false, []rank.Pace{paced(20, 400*mega)}, 6 * mega},
		"nothing has come":        {32 * mega, 32 * mega, 0, false, []rank.Pace{paced(20, mega)}, 8 * mega},
		"and little is left":      {2 * mega, 0, 0, false, []rank.Pace{paced(20, mega)}, minBegin},
		"a near server sends it":  {16 * mega, 16 * mega, mega, true, []rank.Pace{paced(20, 3*mega/4)}, 16 * mega},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, 1, rank.Pace{})
			r.pulls.remove(r.pull, time.Second, r.opts.Roster)
			r.plan.fits, r.opts.Workers = !tc.near, 1+len(tc.paces)
			for _, p := range tc.paces {
				r.beside(r.servers[0], p)
			}
			whole := r.arrival.spans[0]
			whole.pulls, whole.to = nil, tc.span
			if tc.beside > 0 {
				r.arrival.add(0, tc.beside)
			}
			r.open[1] = r.arrival
			r.plan.ahead = 0
			r.plan.fit(whole, tc.speed)
			assert.Equal(t, tc.want, whole.to)
			if tc.want == tc.span {
				assert.Empty(t, r.plan.waiting)
				return
			}
			require.Len(t, r.plan.waiting, 1)
			require.Len(t, r.plan.waiting[0].spans, 1)
			end := r.plan.waiting[0].spans[0]
			assert.Equal(t, tc.want, end.at)
			assert.Equal(t, tc.span, end.to)
		})
	}
}

func TestOverALongWayAWorkerTakesLessAndLessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(1, 1, nil)
		f.data = noise(3, 8*minBegin)
		f.opts.Far, f.opts.Manifest.Size, f.opts.Manifest.ShardSize = true, 8*minBegin, 8*minBegin
		f.opts.Manifest.Digest = sha256.Sum256(f.data)
		f.digests[0] = f.opts.Manifest.Digest
		f.sink.places[0].data = make([]byte, len(f.data))
		open := func(s shard.Shard) (verify.Place, error) { return f.sink.places[s.Number-1], nil }
		f.opts.Verifier = verify.New(verify.Options{
			Manifest: f.opts.Manifest, Listed: f.opts.Manifest.Digest, Open: open,
		})
		var ranges []string
		answer(t, f.Transfer, func(w http.ResponseWriter, r *http.Request) {
			ranges = append(ranges, r.Header.Get("Range"))
			time.Sleep(2 * time.Second)
			send(w, r, f.data)
		})
		require.NoError(t, f.run(t.Context(), 1))
		assert.Equal(t, f.data, f.sink.places[0].data)
		assert.Equal(t, []string{
			"bytes=0-1048575", "bytes=1048576-2621439", "bytes=2621440-3407871", "bytes=3407872-3801087",
			"bytes=3801088-3997695", "bytes=3997696-4095999", "bytes=4096000-4194303",
		}, ranges)
	})
}

// A server that is idle gets a pull of one that has several, unless that would be for
// nothing.
func TestThePullThatMovesToAnIdleServer(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, r *running, idle *remote.Server)
		moved  bool
	}{
		"the one that takes long": {func(*testing.T, *running, *remote.Server) {}, true},
		"not one of a server that has no other": {func(_ *testing.T, r *running, _ *remote.Server) {
			r.pulls.under = map[*pull]bool{r.pull: true}
		}, false},
		"not one that does not last": {func(_ *testing.T, r *running, _ *remote.Server) {
			r.pull.span.at = r.pull.span.to - 1000
		}, false},
		"not one that has just begun": {func(_ *testing.T, r *running, _ *remote.Server) {
			r.pull.pace = paced(spreadAfter-1, 1000)
		}, false},
		"not one that is given up": {func(_ *testing.T, r *running, _ *remote.Server) { r.pull.given = true }, false},
		"not while workers rest":   {func(_ *testing.T, r *running, _ *remote.Server) { r.plan.resting = 1 }, false},
		"not to a server that knows no ranges": {func(t *testing.T, _ *running, idle *remote.Server) {
			loseRanges(t, idle)
		}, false},
		"not to a server that lacks it": {func(_ *testing.T, r *running, idle *remote.Server) {
			delete(r.may, idle)
		}, false},
		"not to a server that is not idle": {func(t *testing.T, r *running, idle *remote.Server) {
			r.occupy(t, idle)
		}, false},
		"not where one server has to send all": {func(t *testing.T, r *running, _ *remote.Server) {
			for i, s := range r.servers {
				r.arrival.check.Wrote(verify.Sender{Name: s.Name}, int64(i), []byte{1})
			}
			for v, err := range r.opts.Verifier.Came(t.Context(), r.arrival.check, make([]byte, 1<<20)) {
				require.NoError(t, err)
				r.arrival.check.Again(v)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, 1<<20, paced(spreadAfter, 1000))
			from, idle := r.servers[0], r.servers[1]
			r.may[idle] = true
			r.occupy(t, from)
			r.beside(from, paced(1, 0)).given = true
			tc.change(t, r, idle)
			r.plan.spread()
			if tc.moved {
				assert.Equal(t, move{idle}, r.why)
				assert.True(t, r.pull.given)
			} else {
				assert.NoError(t, r.why)
			}
		})
	}
}
