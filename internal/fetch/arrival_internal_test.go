package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// slate is a place in memory. It does not look after itself, for the race detector to
// see who writes what nobody else may.
type slate struct {
	data      []byte
	there     []disk.Range
	committed bool
}

func (s *slate) ReadAt(p []byte, offset int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, offset)
}

func (s *slate) WriteAt(p []byte, offset int64) (int, error) { return copy(s.data[offset:], p), nil }
func (s *slate) Written() ([]disk.Range, error)              { return s.there, nil }
func (s *slate) Commit() error                               { s.committed = true; return nil }
func (s *slate) From(bool)                                   {}
func (s *slate) Forget()                                     {}
func (s *slate) Wanted() <-chan int                          { return nil }
func (s *slate) Asked(int) bool                              { return false }
func (s *slate) Close() error                                { return nil }
func (s *slate) Open(shard.Shard) (Place, error)             { return s, nil }

// landing is an arrival of data at a slate, from so many upstreams.
func landing(data []byte, upstreams int, there *slate) (*arrival, []*upstream, error) {
	p := &Pool{opts: Options{Logger: slog.New(slog.DiscardHandler), Timeout: time.Hour}, life: context.Background()}
	for i := range upstreams {
		// None is ever asked anything.
		p.upstreams = append(p.upstreams, &upstream{
			index: i, name: string(rune('A' + i)), err: errSilent, askLater: time.Now().Add(time.Hour),
		})
	}
	p.rank = NewRanking(upstreams, time.Now, func() float64 { return 0 })
	f := &fetching{
		Pool: p, entry: anEntry, sink: there, open: make(map[*arrival]bool), transfers: make(map[*transfer]bool),
		changed: make(chan struct{}), kept: make(chan int, 1), senders: make(map[string]bool),
	}
	f.tally = newTally(p, anEntry, func(Progress) {})
	a, err := f.arrival(shard.Shard{Number: 1, Size: int64(len(data)), Digest: sha256.Sum256(data)})
	return a, p.upstreams, err
}

func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func TestArrivalBeginsWithWhatIsMissing(t *testing.T) {
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
		"the middle":       {[]disk.Range{{From: 10, To: 20}, {From: 30, To: 40}}, []disk.Range{{From: 0, To: 10}, {From: 20, To: 30}, {From: 40, To: 100}}},
		"two that border":  {[]disk.Range{{From: 10, To: 20}, {From: 20, To: 40}}, []disk.Range{{From: 0, To: 10}, {From: 40, To: 100}}},
		"an empty one":     {[]disk.Range{{From: 10, To: 10}}, []disk.Range{{From: 0, To: 10}, {From: 10, To: 100}}},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, err := landing(data, 1, &slate{data: make([]byte, 100), there: tc.there})
			require.NoError(t, err)
			var got []disk.Range
			var missing int64
			for _, s := range a.spans {
				got = append(got, disk.Range{From: s.at, To: s.to})
				missing += s.to - s.at
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, len(tc.want), a.pending)
			assert.Equal(t, 100-missing, a.present)
			assert.Equal(t, a.present, a.tally.done)
		})
	}
}

// own is compared with a table of who sent each byte.
func TestOwnKnowsWhoSentEachByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		upstreams := []*upstream{{name: "A"}, {name: "B"}, {name: "C"}}
		a := &arrival{alone: true}
		var table [size]*upstream
		for range rapid.IntRange(0, 30).Draw(t, "writes") {
			from := rapid.Int64Range(0, size-1).Draw(t, "from")
			to := rapid.Int64Range(from+1, size).Draw(t, "to")
			u := rapid.SampledFrom(upstreams).Draw(t, "upstream")
			a.own(owner{disk.Range{From: from, To: to}, u, rapid.Bool().Draw(t, "relayed")})
			for i := from; i < to; i++ {
				table[i] = u
			}
			var got [size]*upstream
			for _, o := range a.owners {
				require.Less(t, o.From, o.To, "an empty range")
				for i := o.From; i < o.To; i++ {
					require.Nil(t, got[i], "byte %d has two owners", i)
					got[i] = o.upstream
				}
			}
			require.Equal(t, table, got)
			sent := make(map[*upstream]bool)
			for _, u := range table {
				if u != nil {
					sent[u] = true
				}
			}
			require.Len(t, a.senders(), len(sent))
		}
	})
}

func TestOwnKeepsOneRangeForWhatComesInOrder(t *testing.T) {
	for _, alone := range []bool{false, true} {
		a := &arrival{alone: alone}
		u, v := &upstream{name: "A"}, &upstream{name: "B"}
		for i := range int64(50) {
			a.own(owner{disk.Range{From: i, To: i + 1}, u, alone})
			a.own(owner{disk.Range{From: 100 + i, To: 101 + i}, v, false})
		}
		assert.Equal(t, []owner{{disk.Range{To: 50}, u, alone}, {disk.Range{From: 100, To: 150}, v, false}}, a.owners)
	}
}

func TestCompareFindsWhoseBytesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 30
		upstreams := []*upstream{{name: "A"}, {name: "B"}, {name: "C"}}
		old := rapid.SliceOfN(rapid.ByteRange(0, 1), size, size).Draw(t, "old")
		a := &arrival{alone: true, place: &slate{data: old}, differs: make(map[*upstream]bool)}
		var table [size]*upstream // who sent each byte, and could have known that it was right
		for i := 0; i < size; {
			to := rapid.IntRange(i+1, size).Draw(t, "to")
			if u := rapid.SampledFrom(append(upstreams, nil)).Draw(t, "upstream"); u != nil {
				relayed := rapid.Bool().Draw(t, "relayed")
				a.own(owner{disk.Range{From: int64(i), To: int64(to)}, u, relayed})
				for j := i; j < to && !relayed; j++ {
					table[j] = u
				}
			}
			i = to
		}
		from := rapid.IntRange(0, size-1).Draw(t, "from")
		to := rapid.IntRange(from+1, size).Draw(t, "to")
		data := rapid.SliceOfN(rapid.ByteRange(0, 1), to-from, to-from).Draw(t, "new")
		want := make(map[*upstream]bool)
		for i := from; i < to; i++ {
			if table[i] != nil && old[i] != data[i-from] {
				want[table[i]] = true
			}
		}
		require.NoError(t, a.compare(disk.Range{From: int64(from), To: int64(to)}, data))
		assert.Equal(t, want, a.differs)
	})
}

// sendAll has t receive what data holds of it, in pieces of random sizes, and
// returns how much that was.
func sendAll(tr *transfer, data []byte, random *rand.Rand, most int) (sent int64, err error) {
	offset, left := tr.from, tr.to-tr.from
	for left > 0 {
		n := min(int64(1+random.IntN(most)), left)
		sent += n
		if left, err = tr.take(offset, data[offset:offset+n]); err != nil {
			return sent, err
		}
		offset += n
	}
	return sent, nil
}

// Many transfers of the same spans, which are split meanwhile, put each byte into
// place once, and count the others.
func TestRacingTransfersBringEachByteOnce(t *testing.T) {
	for seed := range byte(20) {
		const size, racers = 1 << 18, 6
		data := noise(seed, size)
		there := &slate{data: make([]byte, size), there: []disk.Range{{From: 1000, To: 50_000}}}
		copy(there.data[1000:50_000], data[1000:])
		a, upstreams, err := landing(data, racers, there)
		require.NoError(t, err)
		var mu sync.Mutex
		var sent int64
		var all sync.WaitGroup
		var bring func(s *span, i int)
		bring = func(s *span, i int) {
			random := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			tr := s.join(upstreams[i%racers], true, func(error) {})
			if tr == nil {
				return
			}
			if random.IntN(2) == 0 {
				a.mu.Lock()
				var end *span
				if left := s.to - s.at; left > 1 {
					end = a.split(s, 1+random.Int64N(left-1))
				}
				a.mu.Unlock()
				if end != nil {
					all.Go(func() { bring(end, i+1) })
					all.Go(func() { bring(end, i+2) })
				}
			}
			n, err := sendAll(tr, data, random, 5000)
			assert.NoError(t, err) //nolint:testifylint // require may not be called from here
			tr.leave()
			mu.Lock()
			defer mu.Unlock()
			sent += n
		}
		for i, s := range append([]*span(nil), a.spans...) {
			for j := range racers {
				all.Go(func() { bring(s, i+j) })
			}
		}
		all.Wait()
		assert.Zero(t, a.pending)
		assert.Equal(t, data, there.data)
		again, err := a.finish(t.Context(), make([]byte, 1000))
		require.NoError(t, err)
		assert.Nil(t, again)
		assert.True(t, there.committed)
		assert.Equal(t, sent, a.tally.all.received)
		assert.Equal(t, int64(size), a.tally.done)
		assert.Equal(t, sent-(size-49_000), a.tally.wasted)
		assert.Equal(t, int64(49_000), a.tally.resumed)
	}
}

// A shard comes in whatever pieces, from whatever upstreams, in whatever order: it
// is committed only right, and an upstream that sent nothing wrong is not named.
func TestArrivalIsRightOrBroughtAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size, many = 200, 3
		data := noise(7, size)
		bad := noise(8, size)
		lies := make([]bool, many)
		for i := range many - 1 { // the last is honest
			lies[i] = rapid.Bool().Draw(t, "lies")
		}
		there := &slate{data: make([]byte, size)}
		a, upstreams, err := landing(data, many, there)
		require.NoError(t, err)
		who := rapid.IntRange(0, many-1)
		buf := make([]byte, 64)
		lied := make(map[*upstream]bool)
		waiting := append([]*span(nil), a.spans...)
		for rounds := 0; len(waiting) > 0; {
			s := waiting[0]
			i := who.Draw(t, "upstream")
			if rounds++; rounds > 60 {
				i = many - 1
			}
			if a.refused.has(upstreams[i]) {
				continue
			}
			tr := s.join(upstreams[i], false, func(error) {})
			require.NotNil(t, tr)
			content := data
			if lies[i] {
				content = bad
			}
			offset, left := tr.from, tr.to-tr.from
			for left > 0 && (rounds > 60 || rapid.IntRange(0, 5).Draw(t, "cut") > 0) {
				n := min(rapid.Int64Range(1, 80).Draw(t, "bytes"), left)
				lied[upstreams[i]] = lied[upstreams[i]] || lies[i]
				left, err = tr.take(offset, content[offset:offset+n])
				require.NoError(t, err)
				offset += n
				if !a.alone && left > 1 && rapid.IntRange(0, 9).Draw(t, "split") == 0 {
					a.mu.Lock()
					waiting = append(waiting, a.split(s, rapid.Int64Range(1, s.to-s.at-1).Draw(t, "share")))
					a.mu.Unlock()
					left = s.to - offset
				}
			}
			tr.leave()
			if s.over() {
				waiting = waiting[1:]
				again, err := a.finish(context.Background(), buf)
				require.NoError(t, err)
				if again != nil {
					require.Empty(t, waiting)
					waiting = append(waiting, again)
				}
			}
		}
		assert.True(t, there.committed)
		assert.Equal(t, data, there.data)
		assert.Equal(t, int64(size), a.tally.done)
		assert.Equal(t, a.tally.all.received, a.tally.done+a.tally.wasted)
		for _, u := range upstreams {
			if a.refused.has(u) {
				assert.True(t, lied[u], "%s is named, but sent nothing wrong", u.name)
			}
		}
	})
}

func TestTakeUsesOnlyWhatIsNext(t *testing.T) {
	data := noise(1, 100)
	there := &slate{data: make([]byte, 100)}
	a, upstreams, err := landing(data, 2, there)
	require.NoError(t, err)
	s := a.spans[0]
	ended := make(map[string]error)
	join := func(u *upstream) *transfer {
		return s.join(u, true, func(err error) { ended[u.name] = err })
	}
	one, two := join(upstreams[0]), join(upstreams[1])
	assert.Nil(t, s.join(upstreams[1], false, nil), "it is no race")
	for _, step := range []struct {
		tr       *transfer
		from, to int64
		left, at int64 // after it
	}{
		{one, 0, 10, 90, 10},
		{two, 0, 5, 95, 10},  // nothing new
		{two, 5, 30, 70, 30}, // the second half of it
		{one, 10, 40, 60, 40},
		{two, 30, 40, 60, 40},
	} {
		left, err := step.tr.take(step.from, data[step.from:step.to])
		require.NoError(t, err)
		assert.Equal(t, step.left, left)
		assert.Equal(t, step.at, s.at)
		assert.Equal(t, data[:step.at], there.data[:step.at])
	}
	a.split(s, 10)
	left, err := two.take(40, data[40:60])
	require.NoError(t, err)
	assert.Equal(t, int64(30), left, "up to where it is split")
	left, err = one.take(40, data[40:100])
	require.NoError(t, err)
	assert.Zero(t, left)
	assert.Equal(t, map[string]error{"B": errOver}, ended)
	assert.Equal(t, append(data[:90:90], make([]byte, 10)...), there.data, "what is another's span is left to that")
	used, over := one.leave()
	assert.Equal(t, int64(50), used)
	assert.True(t, over)
	assert.Equal(t, int64(160), a.tally.all.received)
	assert.Equal(t, int64(70), a.tally.wasted)
	assert.Nil(t, join(upstreams[0]), "all has come")
}

// Who brings a shard alone begins at its begin, however far another one has come.
func TestWhoBringsAShardAloneBringsAllOfIt(t *testing.T) {
	data := noise(1, 100)
	a, upstreams, err := landing(data, 2, &slate{data: make([]byte, 100)})
	require.NoError(t, err)
	take := func(s *span, u *upstream, from, to int64, data []byte) {
		tr := s.join(u, false, func(error) {})
		require.NotNil(t, tr)
		assert.Equal(t, from, tr.from)
		_, err := tr.take(from, data[from:to])
		require.NoError(t, err)
		tr.leave()
	}
	take(a.spans[0], upstreams[0], 0, 50, noise(2, 100))
	take(a.spans[0], upstreams[1], 50, 100, data)
	s, err := a.finish(t.Context(), make([]byte, 10))
	require.NoError(t, err)
	require.NotNil(t, s)
	take(s, upstreams[0], 0, 20, noise(2, 100))
	take(s, upstreams[0], 20, 30, noise(2, 100)) // the same one goes on
	take(s, upstreams[1], 0, 100, data)
	s, err = a.finish(t.Context(), make([]byte, 10))
	require.NoError(t, err)
	require.Nil(t, s)
	assert.False(t, a.refused.has(upstreams[1]))
	assert.Equal(t, int64(230), a.tally.all.received)
	assert.Equal(t, int64(130), a.tally.wasted)
}
