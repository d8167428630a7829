package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slate is a place in memory. It has no lock, for the race detector to find two that write
// the same bytes.
type slate struct {
	data      []byte
	there     []disk.Range
	committed bool
	closed    bool

	openErr, writtenErr, writeErr, commitErr error
}

func (s *slate) ReadAt(p []byte, offset int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, offset)
}

func (s *slate) WriteAt(p []byte, offset int64) (int, error) {
	return copy(s.data[offset:], p), s.writeErr
}

func (s *slate) Written() ([]disk.Range, error) { return s.there, s.writtenErr }

func (s *slate) Commit() error {
	s.committed = s.commitErr == nil
	return s.commitErr
}

func (s *slate) Close() error {
	s.closed = true
	return nil
}

func (s *slate) Open(shard.Shard) (Place, error) {
	s.closed = false
	return s, s.openErr
}

// rosterOf returns a roster of servers, which draws the first that may be asked.
func rosterOf(hosts ...string) *roster.Roster {
	opts := roster.Options{
		Attempts: 1, Waits: roster.Waits{FastAttempts: 1, FastWait: time.Second, SlowWait: time.Second},
		Draw: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler),
	}
	for _, host := range hosts {
		opts.Upstreams = append(opts.Upstreams, &url.URL{Scheme: "http", Host: host})
	}
	return roster.New(opts)
}

// landing is the transfer of one shard to a slate.
type landing struct {
	*Transfer

	arrival *Arrival
	servers []*remote.Server
	blamed  map[string]bool
	there   *slate
}

// land begins a shard, from servers called A, B and so on.
func land(data []byte, servers int, there *slate) (*landing, error) {
	hosts := make([]string, servers)
	for i := range hosts {
		hosts[i] = string(rune('A' + i))
	}
	r := rosterOf(hosts...)
	l := &landing{servers: r.Servers(), blamed: make(map[string]bool), there: there}
	size, digest := int64(len(data)), shard.Digest(sha256.Sum256(data))
	m := shard.Manifest{Size: size, ShardSize: size, Digest: digest, Shards: []shard.Digest{digest}}
	l.Transfer = New(Options{
		Version: 1, Manifest: m, Sink: there, Roster: r, Workers: 1, Logger: slog.New(slog.DiscardHandler),
		Verifier: verify.New(verify.Options{Manifest: m, Listed: digest, BLAKE3: true}),
		Tally:    NewTally(1, r, nil, func() []State { return nil }, func(Progress) {}),
		Blame:    func(_ context.Context, s *remote.Server, _ error) { l.blamed[s.Name] = true },
	})
	l.opts.Tally.begin(size)
	var err error
	l.arrival, err = l.Open(context.Background(), 1)
	return l, err
}

// join begins a pull from a server, as [Transfer.Pull] does.
func (l *landing) join(s *Span, from *remote.Server, race bool, cancel context.CancelCauseFunc) *pull {
	p, dropped := s.join(from, race, cancel)
	if dropped > 0 {
		l.opts.Tally.wrong(0, dropped)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Transfer.servers[from.Name] = from
	return p
}

// take has p receive data at an offset, as [Transfer.copy] does.
func (l *landing) take(p *pull, offset int64, data []byte) (left int64, err error) {
	left, used, err := p.span.take(p, offset, data)
	l.opts.Tally.took(p.server, int64(len(data)), used)
	return left, err
}

func (l *landing) progress() Progress { return l.opts.Tally.End(false) }

func ignore(error) {}

func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func TestArrivalBeginsWithTheMissingRanges(t *testing.T) {
	data := noise(1, 100)
	for name, tc := range map[string]struct {
		there []disk.Range
		want  []disk.Range
	}{
		"nothing is there": {nil, []disk.Range{{From: 0, To: 100}}},
		"all is there":     {[]disk.Range{{From: 0, To: 100}}, nil},
		"the begin":        {[]disk.Range{{From: 0, To: 40}}, []disk.Range{{From: 40, To: 100}}},
		"the end":          {[]disk.Range{{From: 40, To: 100}}, []disk.Range{{From: 0, To: 40}}},
		"both ends":        {[]disk.Range{{From: 0, To: 10}, {From: 99, To: 100}}, []disk.Range{{From: 10, To: 99}}},
		"the middle": {
			[]disk.Range{{From: 10, To: 20}, {From: 30, To: 40}},
			[]disk.Range{{From: 0, To: 10}, {From: 20, To: 30}, {From: 40, To: 100}},
		},
		"two that border": {
			[]disk.Range{{From: 10, To: 20}, {From: 20, To: 40}}, []disk.Range{{From: 0, To: 10}, {From: 40, To: 100}},
		},
		"an empty one": {[]disk.Range{{From: 10, To: 10}}, []disk.Range{{From: 0, To: 10}, {From: 10, To: 100}}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := land(data, 1, &slate{data: make([]byte, 100), there: tc.there})
			require.NoError(t, err)
			var got []disk.Range
			var missing int64
			for _, s := range l.arrival.Missing() {
				got = append(got, disk.Range{From: s.at, To: s.to})
				missing += s.left()
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, len(tc.want), l.arrival.pending)
			assert.Equal(t, 100-missing, l.arrival.check.Present())
			assert.Equal(t, 100-missing, l.progress().Done)
			bytes, blame := l.arrival.IsWorthKeeping()
			assert.Equal(t, missing < 100, bytes)
			assert.False(t, blame)
		})
	}
}

func TestErrorsOfPlacesEndTheTransfer(t *testing.T) {
	data, full := noise(1, 100), errors.New("no space left on device")
	for name, there := range map[string]*slate{
		"open": {openErr: full}, "written": {data: make([]byte, 100), writtenErr: full},
		"read back": {data: make([]byte, 10), there: []disk.Range{{From: 0, To: 20}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := land(data, 1, there)
			assert.True(t, roster.Is(err, roster.Stop), "%v", err)
		})
	}
	t.Run("commit", func(t *testing.T) {
		there := &slate{data: bytes.Clone(data), there: []disk.Range{{From: 0, To: 100}}, commitErr: full}
		l, err := land(data, 1, there)
		require.NoError(t, err)
		r := l.finish(t.Context(), l.arrival, make([]byte, 10))
		require.ErrorIs(t, r.Err, full)
		assert.True(t, roster.Is(r.Err, roster.Stop))
		assert.False(t, r.Whole)
	})
	t.Run("write", func(t *testing.T) {
		l, err := land(data, 1, &slate{data: make([]byte, 100), writeErr: full})
		require.NoError(t, err)
		_, err = l.take(l.join(l.arrival.spans[0], l.servers[0], false, ignore), 0, data)
		require.ErrorIs(t, err, full)
	})
}

// sendAll has p receive its span from data, in pieces of random sizes, and returns how many
// bytes that were.
func (l *landing) sendAll(p *pull, data []byte, random *rand.Rand, most int) (sent int64, err error) {
	offset, left := p.from, p.to-p.from
	for left > 0 {
		n := min(int64(1+random.IntN(most)), left)
		sent += n
		if left, err = l.take(p, offset, data[offset:offset+n]); err != nil {
			return sent, err
		}
		offset += n
	}
	return sent, nil
}

// Many pulls of the same spans, which are split meanwhile, bring each byte into place once,
// and the others are counted.
func TestRacingPullsBringEachByteOnce(t *testing.T) {
	for seed := range byte(20) {
		const size, racers = 1 << 18, 6
		data := noise(seed, size)
		there := &slate{data: make([]byte, size), there: []disk.Range{{From: 1000, To: 50_000}}}
		copy(there.data[1000:50_000], data[1000:])
		l, err := land(data, racers, there)
		require.NoError(t, err)
		var mu sync.Mutex
		var sent int64
		var all sync.WaitGroup
		var bring func(s *Span, i int)
		bring = func(s *Span, i int) {
			random := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			p := l.join(s, l.servers[i%racers], true, ignore)
			if p == nil {
				return
			}
			if random.IntN(2) == 0 {
				end := s.split(func(left int64) int64 {
					if left < 2 {
						return -1
					}
					return 1 + random.Int64N(left-1)
				})
				if end != nil {
					all.Go(func() { bring(end, i+1) })
					all.Go(func() { bring(end, i+2) })
				}
			}
			n, err := l.sendAll(p, data, random, 5000)
			assert.NoError(t, err) //nolint:testifylint // require may not be called from here
			s.leave(p)
			mu.Lock()
			defer mu.Unlock()
			sent += n
		}
		for i, s := range l.arrival.Missing() {
			for j := range racers {
				all.Go(func() { bring(s, i+j) })
			}
		}
		all.Wait()
		assert.Empty(t, l.arrival.Missing())
		assert.Equal(t, data, there.data)
		r := l.finish(t.Context(), l.arrival, make([]byte, 1000))
		require.NoError(t, r.Err)
		assert.True(t, r.Whole)
		assert.Equal(t, Result{}, l.finish(t.Context(), l.arrival, nil), "another worker has finished it")
		assert.True(t, there.committed)
		assert.True(t, there.closed)
		end := l.progress()
		assert.Equal(t, sent, end.Received)
		assert.Equal(t, int64(size), end.Done)
		assert.Equal(t, sent-(size-49_000), end.Wasted)
		assert.Equal(t, int64(49_000), end.Resumed)
	}
}

// A shard comes in any pieces, from any servers, in any order: it is committed only when it
// is right, and a server that sent nothing wrong is not blamed.
func TestArrivalIsRightOrComesAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size, many = 200, 3
		data, bad := noise(7, size), noise(8, size)
		lies := make([]bool, many)
		for i := range many - 1 { // the last is honest
			lies[i] = rapid.Bool().Draw(t, "lies")
		}
		there := &slate{data: make([]byte, size)}
		l, err := land(data, many, there)
		require.NoError(t, err)
		index := rapid.IntRange(0, many-1)
		buf := make([]byte, 64)
		lied := make(map[string]bool)
		waiting := l.arrival.Missing()
		for rounds := 0; len(waiting) > 0; {
			s := waiting[0]
			i := index.Draw(t, "server")
			if rounds++; rounds > 60 {
				i = many - 1
			}
			from := l.servers[i]
			if l.blamed[from.Name] {
				continue
			}
			p := l.join(s, from, false, ignore)
			require.NotNil(t, p)
			content := data
			if lies[i] {
				content = bad
			}
			offset, left := p.from, p.to-p.from
			for left > 0 && (rounds > 60 || rapid.IntRange(0, 5).Draw(t, "cut") > 0) {
				n := min(rapid.Int64Range(1, 80).Draw(t, "bytes"), left)
				lied[from.Name] = lied[from.Name] || lies[i]
				left, err = l.take(p, offset, content[offset:offset+n])
				require.NoError(t, err)
				offset += n
				if left > 1 && rapid.IntRange(0, 9).Draw(t, "split") == 0 {
					share := rapid.Int64Range(1, left-1).Draw(t, "share")
					if end := s.split(func(int64) int64 { return share }); end != nil {
						require.False(t, l.arrival.isAlone())
						waiting = append(waiting, end)
						left -= share
					}
				}
			}
			if _, over := s.leave(p); !over {
				continue
			}
			waiting = waiting[1:]
			r := l.finish(context.Background(), l.arrival, buf)
			require.NoError(t, r.Err)
			if len(r.Wrong) > 0 {
				require.False(t, r.Whole)
				require.Empty(t, waiting)
				require.False(t, there.committed)
				waiting = l.arrival.Missing()
				require.Len(t, waiting, 1)
			}
		}
		assert.True(t, there.committed)
		assert.Equal(t, data, there.data)
		end := l.progress()
		assert.Equal(t, int64(size), end.Done)
		assert.Equal(t, end.Received, end.Done+end.Wasted)
		for name := range l.blamed {
			assert.True(t, lied[name], "%s is blamed, but sent nothing wrong", name)
		}
	})
}

func TestTakeUsesOnlyTheNextBytes(t *testing.T) {
	data := noise(1, 100)
	there := &slate{data: make([]byte, 100)}
	l, err := land(data, 2, there)
	require.NoError(t, err)
	s := l.arrival.spans[0]
	ended := make(map[string]error)
	join := func(from *remote.Server) *pull {
		return l.join(s, from, true, func(err error) { ended[from.Name] = err })
	}
	one, two := join(l.servers[0]), join(l.servers[1])
	assert.Nil(t, l.join(s, l.servers[1], false, nil), "it is no race")
	for _, step := range []struct {
		p        *pull
		from, to int64
		left, at int64 // after it
	}{
		{one, 0, 10, 90, 10},
		{two, 0, 5, 95, 10},  // nothing new
		{two, 5, 30, 70, 30}, // the second half of it
		{one, 10, 40, 60, 40},
		{two, 30, 40, 60, 40},
		{two, 50, 60, 40, 40}, // bytes between are missing
	} {
		left, err := l.take(step.p, step.from, data[step.from:step.to])
		require.NoError(t, err)
		assert.Equal(t, step.left, left)
		assert.Equal(t, step.at, s.at)
		assert.Equal(t, data[:step.at], there.data[:step.at])
	}
	assert.Nil(t, s.split(func(int64) int64 { return 10 }), "two pulls race for it")
	_, over := s.leave(one)
	assert.False(t, over)
	end := s.split(func(left int64) int64 {
		assert.Equal(t, int64(60), left)
		return 10
	})
	require.NotNil(t, end)
	assert.Equal(t, int64(90), end.at)
	three := join(l.servers[0])
	left, err := l.take(two, 40, data[40:60])
	require.NoError(t, err)
	assert.Equal(t, int64(30), left, "up to where it is split")
	left, err = l.take(three, 40, data[40:100])
	require.NoError(t, err)
	assert.Zero(t, left)
	assert.Equal(t, map[string]error{"http://B": errOver}, ended)
	assert.Equal(t, append(data[:90:90], make([]byte, 10)...), there.data, "the bytes of another span are left to that")
	gained, over := s.leave(three)
	assert.Equal(t, int64(30), gained)
	assert.True(t, over)
	assert.Equal(t, int64(170), l.progress().Received)
	assert.Equal(t, int64(80), l.progress().Wasted)
	assert.Nil(t, join(l.servers[0]), "all has come")
	assert.Nil(t, s.split(func(int64) int64 { return 0 }), "nothing is left to race for")
	assert.Equal(t, []*Span{end}, l.arrival.Missing())
}

// A server that sends a shard alone begins at its begin, however far another one has come,
// and gains only by the bytes that no server alone has come to before.
func TestAServerThatSendsAShardAloneSendsAllOfIt(t *testing.T) {
	data := noise(1, 100)
	l, err := land(data, 2, &slate{data: make([]byte, 100)})
	require.NoError(t, err)
	take := func(from *remote.Server, offset, to int64, data []byte) (gained int64) {
		s := l.arrival.Missing()[0]
		p := l.join(s, from, false, ignore)
		require.NotNil(t, p)
		assert.Equal(t, offset, p.from)
		_, err := l.take(p, offset, data[offset:to])
		require.NoError(t, err)
		gained, _ = s.leave(p)
		return gained
	}
	a, b := l.servers[0], l.servers[1]
	assert.Equal(t, int64(50), take(a, 0, 50, noise(2, 100)))
	assert.Equal(t, int64(50), take(b, 50, 100, data))
	r := l.finish(t.Context(), l.arrival, make([]byte, 10))
	require.NoError(t, r.Err)
	require.Equal(t, []*Arrival{l.arrival}, r.Wrong)
	require.True(t, l.arrival.isAlone())
	_, blame := l.arrival.IsWorthKeeping()
	assert.True(t, blame)
	assert.Nil(t, l.arrival.spans[0].split(func(int64) int64 { return 0 }), "no other server may help")
	assert.Equal(t, int64(20), take(a, 0, 20, noise(2, 100)))
	assert.Equal(t, int64(10), take(a, 20, 30, noise(2, 100)), "the same one goes on")
	assert.Equal(t, int64(0), take(b, 0, 25, data), "as far as another one")
	assert.Equal(t, int64(70), take(b, 25, 100, data))
	r = l.finish(t.Context(), l.arrival, make([]byte, 10))
	require.NoError(t, r.Err)
	require.True(t, r.Whole)
	assert.Equal(t, map[string]bool{"http://A": true}, l.blamed, "its bytes differ")
	assert.Equal(t, int64(230), l.progress().Received)
	assert.Equal(t, int64(130), l.progress().Wasted)
}

func TestDropForgetsTheDataOfAShard(t *testing.T) {
	data := noise(1, 100)
	there := &slate{data: make([]byte, 100), there: []disk.Range{{From: 0, To: 30}}}
	l, err := land(data, 1, there)
	require.NoError(t, err)
	_, err = l.take(l.join(l.arrival.spans[0], l.servers[0], false, ignore), 30, data[30:50])
	require.NoError(t, err)
	assert.Equal(t, int64(50), l.progress().Done)
	require.NoError(t, l.Drop(l.arrival))
	assert.Zero(t, l.progress().Done)
	assert.Equal(t, int64(20), l.progress().Wasted)
	assert.True(t, there.closed)
	assert.Nil(t, l.Transfer.arrival(1))
	a, err := l.Open(context.Background(), 1)
	require.NoError(t, err)
	assert.Equal(t, int64(30), a.check.Present(), "it can be opened again")
}

func TestIsFromOneServerAlone(t *testing.T) {
	data := noise(1, 100)
	for name, tc := range map[string]struct {
		there []disk.Range
		parts []int // of which server each half is
		want  bool  // that all is from A
	}{
		"one server":            {nil, []int{0, 0}, true},
		"two servers":           {nil, []int{0, 1}, false},
		"another one":           {nil, []int{1, 1}, false},
		"data that was there":   {[]disk.Range{{From: 0, To: 10}}, []int{0, 0}, false},
		"nothing but that data": {[]disk.Range{{From: 0, To: 100}}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := land(data, 2, &slate{data: bytes.Clone(data), there: tc.there})
			require.NoError(t, err)
			for i, server := range tc.parts {
				s := l.arrival.Missing()[0]
				p := l.join(s, l.servers[server], false, ignore)
				_, err := l.take(p, p.from, data[p.from:50*(i+1)])
				require.NoError(t, err)
				s.leave(p)
			}
			require.True(t, l.finish(t.Context(), l.arrival, make([]byte, 10)).Whole)
			assert.Equal(t, tc.want, l.IsFrom(l.servers[0]))
			count, done := l.Shards()
			assert.Equal(t, []int{1, 1}, []int{count, done})
		})
	}
}

// recorder is an audience that notes the calls.
type recorder struct {
	mu     sync.Mutex // guards what follows
	direct map[int][]bool
	forgot []int
	asked  map[int]bool
	wanted chan int
}

func (r *recorder) Wanted() <-chan int { return r.wanted }

func (r *recorder) Asked(number int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[number]
}

func (r *recorder) From(number int, direct bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.direct == nil {
		r.direct = make(map[int][]bool)
	}
	r.direct[number] = append(r.direct[number], direct)
}

func (r *recorder) Forget(number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgot = append(r.forgot, number)
}

func TestReadersAreWarnedOfDataThatIsWrong(t *testing.T) {
	data := noise(1, 100)
	there := &slate{data: noise(2, 100), there: []disk.Range{{From: 0, To: 100}}}
	l, err := land(data, 1, there)
	require.NoError(t, err)
	readers := new(recorder)
	l.audience = readers
	r := l.finish(t.Context(), l.arrival, make([]byte, 10))
	require.NoError(t, r.Err)
	require.Len(t, r.Wrong, 1)
	assert.Equal(t, []int{1}, readers.forgot)
	l.opts.Afresh = true
	require.NoError(t, l.Drop(l.arrival))
	assert.Equal(t, []int{1}, readers.forgot, "nothing had come")
	a, err := l.Open(context.Background(), 1)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 1}, readers.forgot)
	assert.Equal(t, int64(100), a.spans[0].left(), "all of it comes again")
}

func TestPendingAreTheShardsThatReadersWaitForNow(t *testing.T) {
	readers := &recorder{wanted: make(chan int, 3)}
	readers.wanted <- 2
	readers.wanted <- 1
	assert.Equal(t, []int{2, 1}, slices.Collect(Pending(readers)))
	assert.Empty(t, slices.Collect(Pending(readers)))
	assert.Empty(t, slices.Collect(Pending(empty{})))
	readers.wanted <- 3
	readers.wanted <- 1
	for number := range Pending(readers) {
		assert.Equal(t, 3, number)
		break
	}
	assert.Equal(t, []int{1}, slices.Collect(Pending(readers)), "one is not lost by a caller that leaves")
}
