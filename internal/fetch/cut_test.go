package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// cutting is a version that is being cut, and what is told of it.
type cutting struct {
	outline shard.Outline
	data    []byte
	shards  [][]byte
}

// cutting3 is the version of most tests, in three shards.
func cutting3() cutting { return newCutting(6, 1, 2*shardSize+500) }

// newCutting returns a version of size random bytes, another cut for another seed.
func newCutting(version shard.Version, seed byte, size int) cutting {
	data := content(seed, size)
	return cutting{
		outline: shard.Outline{
			Version: version, ID: digestOf([]byte{seed}), Name: "weights.bin", Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
			Size: int64(size), ShardSize: shardSize,
		},
		data: data, shards: slices.Collect(slices.Chunk(data, shardSize)),
	}
}

// begin, shard and end are the lines that are told of c.
func (c cutting) begin() string {
	line, err := c.outline.Encode()
	if err != nil {
		panic(err)
	}
	return string(line)
}

func (c cutting) shard(number int) string { return known(number, digestOf(c.shards[number-1])) }
func (c cutting) end() string             { return known(0, digestOf(c.data)) }

// known is a line that tells of a shard, or of the whole.
func known(number int, d shard.Digest) string {
	line, err := shard.Known{Shard: number, Digest: d}.Encode()
	if err != nil {
		panic(err)
	}
	return string(line)
}

// entry is what c is on offer as in the end.
func (c cutting) entry() distfile.Entry {
	return distfile.Entry{Version: c.outline.Version, Digest: digestOf(c.data)}
}

// manifest is what is on offer with it.
func (c cutting) manifest() shard.Manifest {
	m := c.outline.Manifest()
	m.Digest = digestOf(c.data)
	for i, data := range c.shards {
		m.Shards[i] = digestOf(data)
	}
	return m
}

// path is where shard number is.
func (c cutting) path(number int) string {
	return fmt.Sprintf("/%s/%s", c.outline.Version, shard.FileName(number))
}

const cutsPath = "/unfinished.jsonl"

// teller is a server that tells of a version while it is being cut.
type teller struct {
	host  *host // of the simulation, if it is in one
	start time.Time

	mu      sync.Mutex // guards what follows
	files   map[string][]byte
	offers  string
	tier    string
	spoil   spoiler
	now     *telling      // or nil if nothing is being cut
	changed chan struct{} // closed and replaced when something has become of that
	asked   []told
	telling int // questions for what is being cut that are being answered
}

// telling is one cut as a teller tells of it.
type telling struct {
	text string
	over func() // ends the answer; nil while the cut goes on
}

// told is one request to a teller.
type told struct {
	at     time.Duration // since the begin
	path   string
	header http.Header
}

// newTeller returns a server that has the shards of cuts, and tells of nothing yet.
func newTeller(cuts ...cutting) *teller {
	s := &teller{start: time.Now(), files: make(map[string][]byte), changed: make(chan struct{})}
	for _, c := range cuts {
		for i, data := range c.shards {
			s.files[c.path(i+1)] = data
		}
	}
	return s
}

// teller adds a server to the simulation.
func (n *network) teller(name string, cuts ...cutting) *teller {
	s := newTeller(cuts...)
	s.host = n.host(name, megabyte)
	s.host.server.Handler = s
	return s
}

// serve puts s behind a socket.
func (s *teller) serve(t *testing.T) *site {
	t.Helper()
	behind := &site{Server: httptest.NewServer(s)}
	t.Cleanup(behind.Close)
	return behind
}

// say has s tell so many lines more, of what is being cut from now on if that is new.
func (s *teller) say(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		s.now = new(telling)
	}
	s.now.text += strings.Join(lines, "")
	s.wake()
}

// stop has s tell nothing more of what is being cut: the answer ends.
func (s *teller) stop() { s.stopBy(func() {}) }

// breakOff has s break off the answer.
func (s *teller) breakOff() { s.stopBy(func() { panic(http.ErrAbortHandler) }) }

func (s *teller) stopBy(end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.over = end
	s.now = nil
	s.wake()
}

// wake is for holders of mu.
func (s *teller) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// offer has s list versions from now on.
func (s *teller) offer(entries ...distfile.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers = ""
	for _, e := range entries {
		s.offers += fmt.Sprintf("%s: %s\n", e.Version, e.Digest)
	}
}

// hold has s have a file at path.
func (s *teller) hold(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

// passed has s be a relay.
func (s *teller) passed(tier int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tier = strconv.Itoa(tier)
}

func (s *teller) spoilWith(spoil spoiler) *teller {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = spoil
	return s
}

func (s *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, told{time.Since(s.start), r.URL.Path, r.Header})
	spoil := s.spoil
	s.mu.Unlock()
	if s.host != nil && s.host.isDown() {
		panic(http.ErrAbortHandler) // a connection from before
	}
	if spoil == nil {
		s.answer(w, r)
	} else {
		spoil(w, r, http.HandlerFunc(s.answer))
	}
}

func (s *teller) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	data, ok := s.files[r.URL.Path]
	offers := s.offers
	s.mu.Unlock()
	switch {
	case r.URL.Path == cutsPath:
		s.tell(w, r)
	case r.URL.Path == "/distribution.txt":
		fmt.Fprint(w, offers)
	case ok:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	default:
		http.NotFound(w, r)
	}
}

// look returns what s tells of now, how much of it, and what is closed when there is
// more.
func (s *teller) look(now *telling) (_ *telling, text string, over func(), changed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now == nil {
		now = s.now
	}
	if now != nil {
		text, over = now.text, now.over
	}
	return now, text, over, s.changed
}

func (s *teller) tell(w http.ResponseWriter, r *http.Request) {
	s.count(1)
	defer s.count(-1)
	wait, waits := strings.CutPrefix(r.Header.Get("Prefer"), "wait=")
	seconds, _ := strconv.Atoi(wait)
	if waits {
		w.Header().Set("Preference-Applied", "wait="+wait)
	}
	ended := time.After(time.Duration(seconds) * time.Second)
	sent := 0
	for now, text, over, changed := s.look(nil); ; now, text, over, changed = s.look(now) {
		if now != nil && sent == 0 {
			s.mu.Lock()
			tier := s.tier
			s.mu.Unlock()
			if tier != "" {
				w.Header().Set("Shardcast-Tier", tier)
			}
			ended = nil
		}
		if len(text) > sent {
			_, _ = io.WriteString(w, text[sent:])
			_ = http.NewResponseController(w).Flush()
			sent = len(text)
		}
		if over != nil {
			over()
			return
		}
		select {
		case <-changed:
		case <-ended:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *teller) count(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.telling += more
}

// held returns how many are being told, or wait to be.
func (s *teller) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.telling
}

// questions returns the requests for a path since a time.
func (s *teller) questions(path string, from time.Duration) []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.asked), func(q told) bool { return q.path != path || q.at < from })
}

// shardsAsked returns which shards of c were asked for, in that order.
func (s *teller) shardsAsked(c cutting) (numbers []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.asked {
		for i := range c.shards {
			if q.path == c.path(i+1) {
				numbers = append(numbers, i+1)
			}
		}
	}
	return numbers
}

// listener is a pool that hears of cuts until it is stopped or the test ends.
type listener struct {
	*fetch.Pool

	network *network // or nil
	log     *logbook
	found   chan *fetch.Cut
	ended   chan struct{} // closed when it hears no more
	stop    func()
}

// listen has a pool hear of what tellers of the simulation tell.
func (n *network) listen(t *testing.T, tellers ...*teller) *listener {
	t.Helper()
	log := new(logbook)
	var hosts []*host
	for _, s := range tellers {
		hosts = append(hosts, s.host)
	}
	pool := n.client(t, fetch.Options{Logger: log.logger(), Attempts: 2, FastWait: time.Second, SlowWait: time.Second}, 0, hosts...)
	return listen(t, n, pool, log)
}

func listen(t *testing.T, n *network, pool *fetch.Pool, log *logbook) *listener {
	t.Helper()
	l := &listener{Pool: pool, network: n, log: log, found: make(chan *fetch.Cut, 1000), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(l.ended)
		pool.FollowCuts(ctx, func(c *fetch.Cut) { l.found <- c })
	}()
	l.stop = func() {
		cancel()
		<-l.ended
	}
	t.Cleanup(l.stop)
	return l
}

// cuts returns what was found since it was called before.
func (l *listener) cuts() (cuts []*fetch.Cut) {
	for {
		select {
		case c := <-l.found:
			cuts = append(cuts, c)
		default:
			return cuts
		}
	}
}

// cut returns the one cut that was found since cuts was called.
func (l *listener) cut(t *testing.T) *fetch.Cut {
	t.Helper()
	cuts := l.cuts()
	require.Len(t, cuts, 1)
	return cuts[0]
}

// ending is how a fetch has ended.
type ending struct {
	manifest shard.Manifest
	progress fetch.Progress
	err      error
	at       time.Duration // since the begin of the simulation
}

// fetch begins to fetch c to sink, and returns what yields how that ends.
func (l *listener) fetch(t *testing.T, c *fetch.Cut, sink fetch.Sink) <-chan ending {
	t.Helper()
	ended := make(chan ending, 1)
	go func() {
		m, progress, err := l.Fetch(t.Context(), fetch.Task{
			Entry: c.Entry(), Cut: c, Progress: func(fetch.Progress) {},
			Open: func(m shard.Manifest, tier int) (fetch.Sink, error) {
				assert.Equal(t, c.Outline.Manifest(), m, "all that is known when it begins")
				assert.Equal(t, c.Tier, tier)
				return sink, nil
			},
		})
		e := ending{manifest: m, progress: progress, err: err}
		if l.network != nil {
			e.at = time.Since(l.network.start)
		}
		ended <- e
	}()
	return ended
}

// await returns what comes by c. It fails if nothing does, rather than hang.
func await[T any](t *testing.T, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing comes")
	}
	return got
}

// assertGoesOn says that a fetch has not ended.
func assertGoesOn(t *testing.T, ended <-chan ending) {
	t.Helper()
	select {
	case e := <-ended:
		require.Failf(t, "the fetch has ended", "at %v: %v", e.at, e.err)
	default:
	}
}

// requireFetched says that a fetch has brought all of c.
func requireFetched(t *testing.T, c cutting, e ending, sink *memory) {
	t.Helper()
	require.NoError(t, e.err)
	assert.Equal(t, digestOf(c.data), digestOf(sink.bytes()))
	assert.Equal(t, c.outline.Size, e.progress.Done)
	want := c.manifest()
	want.BLAKE3 = e.manifest.BLAKE3 // which is not told of a cut
	assert.Equal(t, want, e.manifest)
}

func TestFetchOfACutBringsShardsBeforeTheDigestIsKnown(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		n.at(10 * time.Second)
		require.Empty(t, l.cuts())
		origin.say(c.begin())
		n.at(11 * time.Second)
		cut := l.cut(t)
		assert.Equal(t, c.outline, cut.Outline)
		assert.Equal(t, distfile.Entry{Version: 6, Digest: c.outline.ID}, cut.Entry())
		assert.Equal(t, 1, cut.Tier)
		var sink memory
		ended := l.fetch(t, cut, &sink)
		for i, number := range []int{2, 1, 3} {
			n.at(time.Duration(20+10*i) * time.Second)
			assert.Len(t, origin.shardsAsked(c), i, "before it was cut")
			origin.say(c.shard(number))
			n.at(time.Duration(20+10*i)*time.Second + roundTrip)
			assert.True(t, sink.shard(number).committed)
		}
		assert.Equal(t, []int{2, 1, 3}, origin.shardsAsked(c))
		n.at(2 * time.Minute)
		assertGoesOn(t, ended)
		assert.Empty(t, l.Offers())
		origin.say(c.end())
		n.at(2*time.Minute + time.Second)
		e := await(t, ended)
		requireFetched(t, c, e, &sink)
		assert.InDelta(t, 2*time.Minute, e.at, float64(roundTrip))
		assert.Zero(t, e.progress.Wasted)
		assert.Empty(t, l.log.with("level=WARN"))
		assert.Empty(t, l.log.with("not told"))
	})
}

// noting is a sink that says which shards are in their place.
type noting struct {
	*memory

	committed chan int
}

type notingPlace struct {
	fetch.Place

	number int
	sink   noting
}

func (s noting) Open(of shard.Shard) (fetch.Place, error) {
	place, err := s.memory.Open(of)
	return notingPlace{place, of.Number, s}, err
}

func (p notingPlace) Commit() error {
	defer func() { p.sink.committed <- p.number }()
	return p.Place.Commit()
}

func TestFollowCutsOverSockets(t *testing.T) {
	c := cutting3()
	origin, relay := newTeller(c), newTeller(c)
	relay.passed(1)
	log := new(logbook)
	pool := newPool(t, fetch.Options{Logger: log.logger()}, origin.serve(t), relay.serve(t))
	l := listen(t, nil, pool, log)
	relay.say(c.begin())
	cut := await(t, l.found)
	assert.Equal(t, 2, cut.Tier)
	sink := noting{new(memory), make(chan int)}
	ended := l.fetch(t, cut, sink)
	relay.say(c.shard(2))
	assert.Equal(t, 2, await(t, sink.committed))
	origin.say(c.begin(), c.shard(1), c.shard(2))
	assert.Equal(t, 1, await(t, sink.committed))
	relay.say(c.shard(1), c.shard(3))
	assert.Equal(t, 3, await(t, sink.committed))
	assertGoesOn(t, ended)
	origin.say(c.shard(3), c.end())
	origin.stop()
	requireFetched(t, c, await(t, ended), sink.memory)
	assert.Equal(t, []distfile.Entry{c.entry()}, l.Offers())
	assert.Empty(t, l.cuts())
	relay.breakOff()
	l.stop()
}

func TestFetchOfACutOfAnEmptyFile(t *testing.T) {
	c := newCutting(1, 1, 0)
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin())
		n.at(time.Second)
		var sink memory
		ended := l.fetch(t, l.cut(t), &sink)
		n.at(2 * time.Second)
		assertGoesOn(t, ended)
		origin.say(c.end())
		n.at(3 * time.Second)
		e := await(t, ended)
		require.NoError(t, e.err)
		assert.Equal(t, digestOf(nil), e.manifest.Digest)
	})
}

func TestCutIsFoundOnceAndLearnedFromAll(t *testing.T) {
	c := cutting3()
	renamed := c
	renamed.outline.Name, renamed.outline.Date = "other.bin", c.outline.Date.Add(time.Hour)
	simulate(t, published{}, func(t *testing.T, n *network) {
		a, b := n.teller("a", c), n.teller("b", c)
		l := n.listen(t, a, b)
		a.say(c.begin())
		n.at(time.Second)
		cut := l.cut(t)
		news := cut.News(0)
		b.say(renamed.begin(), c.shard(3))
		n.at(2 * time.Second)
		select {
		case <-news.More:
		default:
			assert.Fail(t, "nobody was woken")
		}
		a.say(c.shard(1))
		n.at(3 * time.Second)
		a.say(known(3, one), c.shard(1)) // what was told already, and otherwise
		b.say(c.shard(1), c.shard(2))
		n.at(4 * time.Second)
		news = cut.News(0)
		var numbers []int
		for _, k := range news.Shards {
			numbers = append(numbers, k.Shard)
			assert.Equal(t, digestOf(c.shards[k.Shard-1]), k.Digest)
		}
		require.Equal(t, []int{3, 1, 2}, numbers)
		assert.Equal(t, news.Shards[2:], cut.News(2).Shards)
		assert.Empty(t, cut.News(3).Shards)
		assert.Zero(t, news.Digest)
		require.NoError(t, news.Err)

		b.say(c.end())
		b.stop()
		n.at(5 * time.Second)
		a.say(known(0, two))
		a.stop()
		n.at(6 * time.Second)
		assert.Equal(t, digestOf(c.data), cut.News(3).Digest)
		n.at(time.Minute)
		require.NoError(t, cut.News(3).Err, "all is known, so that nobody need tell of it")
		assert.Empty(t, l.cuts())
	})
}

func TestNewsAreNotChangedByWhatComesLater(t *testing.T) {
	c := newCutting(6, 1, 5*shardSize)
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin(), c.shard(1), c.shard(2), c.shard(3))
		n.at(time.Second)
		shards := l.cut(t).News(0).Shards
		require.Len(t, shards, 3)
		assert.Equal(t, 3, cap(shards), "who appends to it would write into what is known")
	})
}

func TestAwaitReturnsTheDigestOrWhyThereIsNone(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin())
		n.at(time.Second)
		cut := l.cut(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(time.Minute, func() { cancel(why) })
		_, err := cut.Await(ctx)
		require.ErrorIs(t, err, why)
		time.AfterFunc(time.Minute, func() { origin.say(c.shard(1), c.end()) })
		digest, err := cut.Await(t.Context())
		require.NoError(t, err)
		assert.Equal(t, digestOf(c.data), digest)
	})
}

func TestFetchOfACutGoesOnWhileSomebodyTells(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		a, b := n.teller("a", c), n.teller("b", c)
		l := n.listen(t, a, b)
		a.say(c.begin(), c.shard(1))
		b.say(c.begin())
		n.at(time.Second)
		cut := l.cut(t)
		var sink memory
		ended := l.fetch(t, cut, &sink)
		n.at(10 * time.Second)
		a.breakOff()
		a.spoilWith(by(status(http.StatusNotFound)))
		n.at(time.Minute)
		assertGoesOn(t, ended)
		b.say(c.shard(2), c.shard(3), c.end())
		n.at(61 * time.Second)
		requireFetched(t, c, await(t, ended), &sink)
		assert.NotEmpty(t, l.log.with("level=DEBUG", "what is being cut is not told", "upstream=http://a:80", "unexpected EOF"))
	})
}

func TestCutIsGivenUpWhenNobodyTellsOfItForTenSeconds(t *testing.T) {
	c := cutting3()
	for name, end := range map[string]func(*teller){
		"the answer ends": (*teller).stop, "the answer breaks off": (*teller).breakOff,
		"half a line": func(s *teller) {
			s.say(c.shard(2)[:40])
			s.stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				a, b := n.teller("a", c), n.teller("b", c)
				l := n.listen(t, a, b)
				a.say(c.begin(), c.shard(1))
				b.say(c.begin())
				n.at(time.Second)
				cut := l.cut(t)
				ended := l.fetch(t, cut, new(memory))
				awaited := make(chan error, 1)
				go func() {
					_, err := cut.Await(t.Context())
					awaited <- err
				}()
				n.at(15 * time.Second)
				end(a)
				n.at(20 * time.Second)
				end(b)
				n.at(29*time.Second + 900*time.Millisecond)
				assertGoesOn(t, ended)
				n.at(30*time.Second + 100*time.Millisecond)
				e := await(t, ended)
				require.ErrorIs(t, e.err, fetch.ErrNoVersion)
				require.ErrorContains(t, e.err, "v6 is not finished: no upstream tells of it any more")
				assert.InDelta(t, 30*time.Second, e.at, float64(roundTrip))
				require.ErrorIs(t, await(t, awaited), fetch.ErrNoVersion)
				require.ErrorIs(t, cut.News(0).Err, fetch.ErrNoVersion)
				assert.Empty(t, l.Offers())
				assert.Empty(t, l.cuts())

				// What has become of it later does not matter to those who gave it up.
				a.say(c.begin(), c.shard(1), c.shard(2), c.shard(3))
				n.at(40 * time.Second)
				again := l.cut(t)
				assert.NotSame(t, cut, again)
				assert.Len(t, again.News(0).Shards, 3)
				assert.Len(t, cut.News(0).Shards, 1)
				var sink memory
				ended = l.fetch(t, again, &sink)
				n.at(41 * time.Second)
				a.say(c.end())
				n.at(42 * time.Second)
				requireFetched(t, c, await(t, ended), &sink)
				require.ErrorIs(t, cut.News(0).Err, fetch.ErrNoVersion)
				assert.Zero(t, cut.News(0).Digest)
			})
		})
	}
}

// The end of a cut is missed by who was told of nothing at that time, but not for long.
func TestCutWhoseEndWasMissedIsCompletedByTheManifestOnOffer(t *testing.T) {
	c := cutting3()
	longer := newCutting(6, 1, 3*shardSize)
	others := newCutting(6, 2, 2*shardSize+500)
	for name, test := range map[string]struct {
		offered cutting
		told    bool
		listed  bool // before it is told of no more
		comes   bool
	}{
		"the same file":              {offered: c, comes: true},
		"the same file, known":       {offered: c, listed: true, comes: true},
		"one of another size":        {offered: longer},
		"one of other shards":        {offered: others},
		"while somebody tells of it": {offered: c, told: true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				a, b := n.teller("a", c), n.teller("b", c)
				l := n.listen(t, a, b)
				a.say(c.begin(), c.shard(2))
				if test.told {
					b.say(c.begin())
				}
				n.at(time.Second)
				var sink memory
				ended := l.fetch(t, l.cut(t), &sink)
				text, err := test.offered.manifest().Encode()
				require.NoError(t, err)
				list := func() {
					a.hold("/v6/manifest.json", text)
					a.offer(test.offered.entry())
					require.NoError(t, l.Refresh(t.Context(), fetch.All))
				}
				if test.listed {
					list()
				}
				n.at(2 * time.Second)
				a.breakOff()
				n.at(3 * time.Second)
				if !test.listed {
					list()
				}
				n.at(4 * time.Second)
				if test.comes {
					requireFetched(t, c, await(t, ended), &sink)
					assert.ElementsMatch(t, []int{1, 2, 3}, a.shardsAsked(c))
					return
				}
				assertGoesOn(t, ended)
			})
		})
	}
}

// Two relays that tell one another of a cut do not keep it when its origin is gone.
func TestWhoIsNotNearerToTheOriginDoesNotKeepACut(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin, peer := n.teller("origin", c), n.teller("peer", c)
		peer.passed(1)
		l := n.listen(t, origin, peer)
		origin.say(c.begin(), c.shard(1))
		n.at(time.Second)
		cut := l.cut(t)
		require.Equal(t, 1, cut.Tier)
		peer.say(c.begin(), c.shard(2))
		n.at(2 * time.Second)
		assert.Len(t, cut.News(0).Shards, 2, "it is heard all the same")
		origin.stop()
		n.at(11 * time.Second)
		require.NoError(t, cut.News(0).Err)
		n.at(13 * time.Second)
		require.ErrorIs(t, cut.News(0).Err, fetch.ErrNoVersion)

		// Nor does it come back by way of the other one, but from where it came.
		peer.stop()
		peer.say(c.begin(), c.shard(1))
		n.at(20 * time.Second)
		assert.Empty(t, l.cuts())
		origin.say(c.begin())
		n.at(30 * time.Second)
		assert.Equal(t, 1, l.cut(t).Tier)
	})
}

func TestCutGoesOnWhenItIsToldOfAgainInTime(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin(), c.shard(1))
		n.at(10 * time.Second)
		var sink memory
		cut := l.cut(t)
		ended := l.fetch(t, cut, &sink)
		for i := range 3 {
			origin.breakOff()
			n.at(time.Duration(16+8*i) * time.Second)
			origin.say(c.begin(), c.shard(1), c.shard(2))
			n.at(time.Duration(18+8*i) * time.Second)
		}
		questions := origin.questions(cutsPath, 10*time.Second)
		require.Len(t, questions, 3)
		assert.Greater(t, questions[0].at, 10*time.Second+700*time.Millisecond, "who breaks off is given time")
		n.at(2 * time.Minute)
		assertGoesOn(t, ended)
		assert.Len(t, cut.News(0).Shards, 2)
		origin.say(c.shard(3), c.end())
		n.at(2*time.Minute + time.Second)
		requireFetched(t, c, await(t, ended), &sink)
		assert.Equal(t, []int{1, 2, 3}, origin.shardsAsked(c))
		assert.Empty(t, l.cuts())
	})
}

func TestCutsAreAskedForByAWait(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		n.at(10 * time.Minute)
		questions := origin.questions(cutsPath, 0)
		assert.InDelta(t, 10*time.Minute/(55*time.Second), len(questions), 2, "as soon as one is answered, and not sooner")
		for _, q := range questions {
			assert.Equal(t, "wait=55", q.header.Get("Prefer"))
			assert.NotContains(t, q.header, "If-None-Match", "nothing is known that could match")
		}
		assert.Equal(t, 1, origin.held())
		assert.Empty(t, l.log.with(""))
		origin.say(c.begin())
		n.at(10*time.Minute + roundTrip)
		l.cut(t)
	})
}

// What says that a server tells of no cuts, for it not to be asked soon again.
func TestWhoDoesNotTellOfCutsIsSeldomAsked(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"404":                         status(http.StatusNotFound),
		"410":                         status(http.StatusGone),
		"403, as from a bucket":       status(http.StatusForbidden),
		"405":                         status(http.StatusMethodNotAllowed),
		"501":                         status(http.StatusNotImplemented),
		"204 without the preference":  status(http.StatusNoContent),
		"a page for all that is none": text("<!DOCTYPE html>\n<p>Welcome\n"),
		"a long line":                 text(strings.Repeat("x", 100_000)),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				plain := n.teller("plain").spoilWith(by(answer))
				l := n.listen(t, plain)
				n.at(3 * time.Minute)
				assert.Len(t, plain.questions(cutsPath, 0), 1)
				n.at(7 * time.Minute)
				assert.Len(t, plain.questions(cutsPath, 0), 2, "it may have been replaced by one that does")
				n.at(time.Hour)
				assert.InDelta(t, 12, len(plain.questions(cutsPath, 0)), 4)
				assert.Empty(t, l.cuts())
				assert.Empty(t, l.log.with("level=WARN"))
			})
		})
	}
}

func TestWhoDoesNotTellOfCutsNowIsAskedSoon(t *testing.T) {
	c := cutting3()
	for name, tc := range map[string]struct {
		answer  spoiler
		longest time.Duration // between two questions
	}{
		"500":         {by(status(http.StatusInternalServerError)), time.Second},
		"502":         {by(status(http.StatusBadGateway)), time.Second},
		"408":         {by(status(http.StatusRequestTimeout)), time.Second},
		"no answer":   {by(cut), time.Second},
		"nothing yet": {by(text("")), time.Second},
		"half a line": {by(text(c.begin()[:40])), time.Second},
		"204 at once": {by(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Preference-Applied", "wait=55")
			w.WriteHeader(http.StatusNoContent)
		}), time.Second},
		"503 with Retry-After: 60": {by(busyFor(60)), 90 * time.Second},
		"429 with Retry-After: 0": {by(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		}), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				origin := n.teller("origin", c).spoilWith(tc.answer)
				l := n.listen(t, origin)
				n.at(10 * time.Minute)
				questions := origin.questions(cutsPath, 0)
				for i := range len(questions) - 1 {
					between := questions[i+1].at - questions[i].at
					assert.LessOrEqual(t, between, tc.longest*5/4+roundTrip)
					assert.GreaterOrEqual(t, between, tc.longest*2/3)
				}
				assert.GreaterOrEqual(t, len(questions), int(10*time.Minute*4/5/tc.longest)-1)
				assert.Empty(t, l.log.with("level=WARN"))
				origin.spoilWith(nil)
				origin.say(c.begin())
				n.at(12 * time.Minute)
				l.cut(t)
			})
		})
	}
}

func TestFetchOfACutWhoseDigestIsAnotherFails(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin(), c.shard(1), c.shard(2), c.shard(3), known(0, one))
		n.at(time.Second)
		ended := l.fetch(t, l.cut(t), new(memory))
		n.at(2 * time.Second)
		e := await(t, ended)
		require.ErrorIs(t, e.err, fetch.ErrIntegrity)
		require.ErrorContains(t, e.err, one.String())
	})
}

func TestFetchOfACutThatEndsBeforeAllShardsAreKnownFails(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin(), c.shard(1), c.shard(3))
		n.at(time.Second)
		ended := l.fetch(t, l.cut(t), new(memory))
		n.at(2 * time.Second)
		origin.say(c.end())
		n.at(3 * time.Second)
		e := await(t, ended)
		require.ErrorIs(t, e.err, fetch.ErrIntegrity)
		require.ErrorContains(t, e.err, "only 2 of 3 shards have digests")
	})
}

// endless has a line repeated for as long as somebody listens, and counts its bytes.
func endless(line string, written *int) spoiler {
	block := strings.Repeat(line, max(1, 4096/len(line)))
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		for r.Context().Err() == nil {
			n, err := io.WriteString(w, block)
			if *written += n; err != nil {
				return
			}
		}
	}
}

func TestWhatIsNoOutlineIsNoCut(t *testing.T) {
	c := cutting3()
	good := c.begin()
	changed := func(from, to string) string {
		line := strings.Replace(good, from, to, 1)
		if line == good {
			panic(from)
		}
		return line + c.shard(1) + c.end()
	}
	for name, body := range map[string]string{
		"an empty line":            "\n" + good,
		"no JSON":                  "v6\n",
		"zeros":                    strings.Repeat("\x00", 100) + "\n",
		"a negative size":          changed(`"size":2500`, `"size":-1`),
		"shards of nothing":        changed(`"shard_size":1000`, `"shard_size":0`),
		"negative shards":          changed(`"shard_size":1000`, `"shard_size":-1000`),
		"too many shards":          changed(`"size":2500`, `"size":9223372036854775807`),
		"more than a number holds": changed(`"size":2500`, `"size":92233720368547758070`),
		"no ID":                    changed(`"id"`, `"ID"`),
		"a version that is none":   changed(`"v6"`, `"../v6"`),
		"a shard first":            c.shard(1) + good + c.end(),
		"the whole first":          c.end() + good,
		"a line too long":          changed(`"size"`, `"more":"`+strings.Repeat("x", shard.MaxOutlineLine)+`","size"`),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				evil := n.teller("evil", c).spoilWith(by(text(body)))
				l := n.listen(t, evil)
				n.at(time.Minute)
				assert.Empty(t, l.cuts())
				assert.Empty(t, l.Offers())
				assert.Len(t, l.log.with("level=DEBUG", "what is being cut is not told", "upstream=http://evil:80", "err="), 1)
				assert.Len(t, evil.questions(cutsPath, 0), 1, "not asked again soon")
			})
		})
	}
}

func TestALongLineThatIsAllowedIsRead(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		const end = "\"}\n"
		line := strings.TrimSuffix(c.begin(), "}\n") + `,"more":"`
		origin.say(line + strings.Repeat("x", shard.MaxOutlineLine-len(line)-len(end)) + end)
		n.at(time.Second)
		l.cut(t)
	})
}

func TestCutIsGivenUpAfterALineThatIsNone(t *testing.T) {
	c := cutting3()
	for name, line := range map[string]string{
		"an empty line":    "\n",
		"no JSON":          "shard 2\n",
		"shard 0":          `{"shard":0,"digest":"` + one.String() + `"}` + "\n",
		"a negative shard": `{"shard":-1,"digest":"` + one.String() + `"}` + "\n",
		"a shard too many": `{"shard":4,"digest":"` + one.String() + `"}` + "\n",
		"a huge shard":     `{"shard":9223372036854775808,"digest":"` + one.String() + `"}` + "\n",
		"no shard":         `{"shard":null,"digest":"` + one.String() + `"}` + "\n",
		"no digest":        `{"shard":2}` + "\n",
		"an outline":       c.begin(),
		"a line too long":  `{"shard":2,"digest":"` + one.String() + `","more":"` + strings.Repeat("x", shard.MaxOutlineLine) + `"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				evil := n.teller("evil", c)
				l := n.listen(t, evil)
				evil.say(c.begin(), c.shard(1))
				n.at(time.Second)
				ended := l.fetch(t, l.cut(t), new(memory))
				n.at(2 * time.Second)
				evil.say(line, c.shard(2), c.shard(3), c.end())
				n.at(3 * time.Second)
				assert.Zero(t, evil.held(), "the answer is not closed")
				n.at(13 * time.Second)
				e := await(t, ended)
				require.ErrorIs(t, e.err, fetch.ErrNoVersion)
				assert.InDelta(t, 12*time.Second, e.at, float64(roundTrip))
				assert.Equal(t, []int{1}, evil.shardsAsked(c))
				assert.Empty(t, l.Offers())
				assert.Len(t, l.log.with("level=DEBUG", "what is being cut is not told", "upstream=http://evil:80", "err="), 1)
				n.at(time.Minute)
				assert.Len(t, evil.questions(cutsPath, 0), 1, "not asked again soon")
				assert.Empty(t, l.cuts())
			})
		})
	}
}

func TestEndlessAnswersAreNotReadToTheirEnd(t *testing.T) {
	c := cutting3()
	for name, tc := range map[string]struct{ begin, line string }{
		"a line":                    {"", "x"},
		"a line after the outline":  {c.begin(), "x"},
		"lines after the last":      {c.begin() + c.end(), c.shard(1)},
		"a shard, repeatedly":       {c.begin(), c.shard(1)},
		"the last line, repeatedly": {c.begin(), c.end()},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				var written int
				evil := n.teller("evil", c)
				evil.spoilWith(only(cutsPath, first(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					text(tc.begin)(w, r)
					endless(tc.line, &written)(w, r, next)
				})))
				n.listen(t, evil)
				n.at(2 * time.Minute)
				assert.Less(t, written, 64<<10)
			})
		})
	}
}

// Every other digest would be another entry on offer.
func TestOnlyOneLastLineIsBelieved(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		evil := n.teller("evil", c)
		l := n.listen(t, evil)
		evil.say(c.begin(), known(0, one), known(0, two), c.end())
		n.at(time.Second)
		require.Equal(t, []distfile.Entry{{Version: 6, Digest: one}}, l.Offers())
		evil.stop()
		n.at(2 * time.Second)
		_, err := l.Manifest(t.Context(), distfile.Entry{Version: 6, Digest: two})
		require.ErrorIs(t, err, fetch.ErrNoVersion)
		assert.Empty(t, evil.questions("/v6/manifest.json", 0), "nobody has listed it")
	})
}

func TestTheLastLinePutsTheVersionOnOffer(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin, other := n.teller("origin", c), n.teller("other", c)
		origin.offer(distfile.Entry{Version: 5, Digest: one})
		other.offer(distfile.Entry{Version: 5, Digest: one})
		l := n.listen(t, origin, other)
		var mu sync.Mutex
		var news []time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		defer following.Wait()
		defer cancel()
		following.Go(func() {
			l.Follow(ctx, time.Hour, func() {
				mu.Lock()
				defer mu.Unlock()
				news = append(news, time.Since(n.start))
			})
		})
		n.at(time.Minute)
		origin.say(c.begin(), c.shard(1), c.shard(2), c.shard(3))
		n.at(2 * time.Minute)
		require.Len(t, l.Offers(), 1)
		mu.Lock()
		news = nil
		mu.Unlock()
		origin.say(c.end())
		n.at(2*time.Minute + roundTrip)
		assert.Equal(t, []distfile.Entry{{Version: 5, Digest: one}, c.entry()}, l.Offers())
		require.Len(t, news, 1, "who follows is told at once")
		assert.InDelta(t, 2*time.Minute, news[0], float64(roundTrip))

		// By who was told of it, and nobody else.
		_, err := l.Manifest(t.Context(), c.entry())
		require.Error(t, err, "there is none here")
		assert.Len(t, origin.questions("/v6/manifest.json", 0), 1)
		assert.Empty(t, other.questions("/v6/manifest.json", 0))
	})
}

func TestTheLastLineIsNoNewsAboutWhatIsOnOffer(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		var news int
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		defer following.Wait()
		defer cancel()
		following.Go(func() { l.Follow(ctx, time.Hour, func() { news++ }) })
		origin.say(c.begin(), c.shard(1), c.shard(2), c.shard(3))
		n.at(time.Minute)
		origin.offer(c.entry())
		require.NoError(t, l.Refresh(t.Context(), fetch.All))
		n.at(2 * time.Minute)
		before := news
		origin.say(c.end())
		n.at(3 * time.Minute)
		assert.Equal(t, before, news)
		assert.Equal(t, []distfile.Entry{c.entry()}, l.Offers())
	})
}

// Nor does it stand in for an answer: all else that is on offer would seem to be retired.
func TestTheLastLineIsNotSetBackByAnOlderAnswer(t *testing.T) {
	c := cutting3()
	five := distfile.Entry{Version: 5, Digest: one}
	for name, heard := range map[string]bool{"the first one": false, "a later one": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				origin := n.teller("origin", c)
				origin.offer(five)
				l := n.listen(t, origin)
				if heard {
					require.NoError(t, l.Refresh(t.Context(), fetch.All))
				}
				origin.say(c.begin(), c.shard(1), c.shard(2), c.shard(3))
				n.at(time.Second)
				origin.spoilWith(only("/distribution.txt", by(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(5 * time.Second)
					text("v5: "+one.String()+"\n")(w, r)
				})))
				refreshed := make(chan error, 1)
				go func() { refreshed <- l.Refresh(t.Context(), fetch.All) }()
				n.at(3 * time.Second)
				origin.say(c.end())
				n.at(5 * time.Second)
				assert.Equal(t, heard, l.Heard())
				n.at(8 * time.Second)
				require.NoError(t, await(t, refreshed))
				assert.Equal(t, []distfile.Entry{five, c.entry()}, l.Offers())
				assert.True(t, l.Heard())
			})
		})
	}
}

func TestAnotherCutOfTheSameNumberIsAnother(t *testing.T) {
	c, next := cutting3(), newCutting(6, 2, 4*shardSize)
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", next)
		l := n.listen(t, origin)
		origin.say(c.begin())
		n.at(10 * time.Second)
		failed := l.cut(t)
		origin.stop()
		origin.say(next.begin(), next.shard(1), next.shard(2), next.shard(3), next.shard(4))
		n.at(11 * time.Second)
		cut := l.cut(t)
		assert.Equal(t, next.outline, cut.Outline)
		assert.Empty(t, failed.News(0).Shards)
		var sink memory
		ended := l.fetch(t, cut, &sink)
		n.at(30 * time.Second)
		require.ErrorIs(t, failed.News(0).Err, fetch.ErrNoVersion)
		origin.say(next.end())
		n.at(31 * time.Second)
		requireFetched(t, next, await(t, ended), &sink)
	})
}

func TestWhatTellsACutFromAnother(t *testing.T) {
	c := cutting3()
	for name, tc := range map[string]struct {
		change func(*shard.Outline)
		same   bool
	}{
		"nothing":            {func(*shard.Outline) {}, true},
		"another name":       {func(o *shard.Outline) { o.Name = "other.bin" }, true},
		"another date":       {func(o *shard.Outline) { o.Date = o.Date.Add(time.Hour) }, true},
		"another ID":         {func(o *shard.Outline) { o.ID = two }, false},
		"another version":    {func(o *shard.Outline) { o.Version++ }, false},
		"another size":       {func(o *shard.Outline) { o.Size-- }, false},
		"another shard size": {func(o *shard.Outline) { o.ShardSize++ }, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				a, b := n.teller("a", c), n.teller("b", c)
				l := n.listen(t, a, b)
				a.say(c.begin())
				n.at(time.Second)
				other := c
				tc.change(&other.outline)
				b.say(other.begin(), c.shard(1))
				n.at(2 * time.Second)
				cuts := l.cuts()
				if tc.same {
					require.Len(t, cuts, 1)
					assert.Len(t, cuts[0].News(0).Shards, 1)
				} else {
					require.Len(t, cuts, 2)
					assert.Empty(t, cuts[0].News(0).Shards)
					assert.Len(t, cuts[1].News(0).Shards, 1)
				}
			})
		})
	}
}

// A web server may have the text as a file, for ever.
func TestCutThatIsToldOfAgainAndAgainIsFoundOnce(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c).spoilWith(by(text(c.begin() + c.shard(1) + c.shard(2) + c.shard(3) + c.end())))
		l := n.listen(t, origin)
		n.at(time.Minute)
		cut := l.cut(t)
		assert.Len(t, cut.News(0).Shards, 3)
		require.NoError(t, cut.News(0).Err)
		assert.InDelta(t, 60, len(origin.questions(cutsPath, 0)), 20, "not asked at once when it takes no time")
	})
}

func TestCutsAreHeardOfOverOneConnection(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin")
		var dialled atomic.Int32
		pool := n.client(t, fetch.Options{}, 0, origin.host)
		pool.SetDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled.Add(1)
			return n.dial(ctx, network, address)
		})
		l := listen(t, n, pool, new(logbook))
		for i := range 5 {
			c := newCutting(shard.Version(i+1), byte(i), shardSize)
			n.at(time.Duration(2*i+1) * time.Minute)
			origin.say(c.begin(), c.shard(1))
			n.at(time.Duration(2*i+2) * time.Minute)
			l.cut(t)
			origin.say(c.end())
			origin.stop()
		}
		n.at(time.Hour)
		assert.EqualValues(t, 1, dialled.Load())
	})
}

func TestFetchOfACutAsksWhoTellsOfItAndThenWhoListsIt(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		stranger, lister, teller := n.teller("stranger", c), n.teller("lister", c), n.teller("teller", c)
		stranger.offer(distfile.Entry{Version: 6, Digest: one})
		l := n.listen(t, stranger, lister, teller)
		require.NoError(t, l.Refresh(t.Context(), fetch.All))
		teller.say(c.begin(), c.shard(1), c.shard(2))
		n.at(time.Second)
		var sink memory
		ended := l.fetch(t, l.cut(t), &sink)
		n.at(2 * time.Second)
		assert.ElementsMatch(t, []int{1, 2}, teller.shardsAsked(c))
		lister.offer(c.entry())
		teller.spoilWith(only("/v6/", by(cut)))
		teller.say(c.shard(3), c.end())
		n.at(4 * time.Second)
		requireFetched(t, c, await(t, ended), &sink)
		assert.Equal(t, []int{3}, lister.shardsAsked(c))
		assert.Empty(t, stranger.shardsAsked(c))
	})
}

func TestFetchOfACutTellsWrongBytesFromRightOnes(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		evil, good := n.teller("evil", c), n.teller("good", c)
		evil.spoilWith(only("/v6/", tampered(flipped)))
		l := n.listen(t, evil, good)
		evil.say(c.begin(), c.shard(1))
		good.say(c.begin(), c.shard(1), c.shard(2), c.shard(3))
		n.at(time.Second)
		var sink memory
		ended := l.fetch(t, l.cut(t), &sink)
		n.at(2 * time.Second)
		good.say(c.end())
		n.at(3 * time.Second)
		requireFetched(t, c, await(t, ended), &sink)
		assert.Len(t, l.log.with("level=WARN", "upstream not asked again", "evil"), 1)
		assert.Empty(t, l.log.with("level=WARN", "good"))
	})
}

// begun begins to fetch a version whose last line comes, and the next cut begins, while
// shards 2 and 3 are still to be brought. What tellers do with a request for those
// is said by spoil.
func begun(t *testing.T, n *network, c cutting, spoil spoiler, tellers ...*teller) (*listener, *memory, <-chan ending) {
	t.Helper()
	next := newCutting(7, 2, shardSize)
	l := n.listen(t, tellers...)
	for _, s := range tellers {
		s.say(c.begin(), c.shard(1))
	}
	n.at(2 * time.Second)
	sink := new(memory)
	ended := l.fetch(t, l.cut(t), sink)
	n.at(3 * time.Second)
	for _, s := range tellers {
		s.spoilWith(only("/v6/", spoil))
		s.say(c.shard(2), c.shard(3), c.end())
		s.stop()
		s.say(next.begin())
	}
	n.at(3*time.Second + 500*time.Millisecond)
	l.cut(t)
	assertGoesOn(t, ended)
	return l, sink, ended
}

func TestFetchOfACutGoesOnWhenTheNextOneBegins(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		origin.offer(c.entry())
		_, sink, ended := begun(t, n, c, oncePerPath(by(cut)), origin)
		n.at(10 * time.Second)
		requireFetched(t, c, await(t, ended), sink)
	})
}

func TestFetchOfACutTellsWrongBytesWhenTheNextOneHasBegun(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		evil, good := n.teller("evil", c), n.teller("good", c)
		evil.offer(c.entry())
		good.offer(c.entry())
		l, sink, ended := begun(t, n, c, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(2 * time.Second)
			if r.Host == "evil:80" {
				tampered(flipped)(w, r, next)
			} else {
				next.ServeHTTP(w, r)
			}
		}, evil, good)
		n.at(10 * time.Second)
		requireFetched(t, c, await(t, ended), sink)
		assert.Len(t, l.log.with("level=WARN", "upstream not asked again", "evil"), 1)
		assert.Empty(t, l.log.with("level=WARN", "good"))
	})
}

// missing says that there is no such thing, but not before a time of the simulation.
func (n *network) missing(from time.Duration) spoiler {
	return by(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Until(n.start.Add(from)))
		w.WriteHeader(http.StatusNotFound)
	})
}

func TestFetchOfACutEndsWhenTheVersionIsRetired(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		_, _, ended := begun(t, n, c, n.missing(5*time.Second), n.teller("origin", c))
		n.at(10 * time.Second)
		e := await(t, ended)
		require.ErrorIs(t, e.err, fetch.ErrNoVersion)
		assert.InDelta(t, 5*time.Second, e.at, float64(roundTrip))
	})
}

func TestFetchOfACutEndsWhenAListedVersionIsMissing(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		origin.offer(c.entry())
		_, _, ended := begun(t, n, c, n.missing(5*time.Second), origin)
		n.at(10 * time.Second)
		e := await(t, ended)
		require.ErrorIs(t, e.err, fs.ErrNotExist)
		assert.LessOrEqual(t, len(origin.shardsAsked(c)), 1+2*2, "two attempts a shard")
	})
}

func TestCutThatCameThroughARelaySaysSo(t *testing.T) {
	c := cutting3()
	for header, want := range map[string]int{"": 1, "1": 2, "3": 4, "0": 1, "many": 1, "-1": 1} {
		t.Run(header, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				relay := n.teller("relay", c)
				relay.tier = header
				l := n.listen(t, relay)
				relay.say(c.begin())
				n.at(time.Second)
				cut := l.cut(t)
				assert.Equal(t, want, cut.Tier)
				l.fetch(t, cut, new(memory)) // which checks that it is told so
				n.at(2 * time.Second)
			})
		})
	}
}

func TestFollowCutsEndsWithItsContextAndItsPool(t *testing.T) {
	c := cutting3()
	for name, end := range map[string]func(l *listener){
		"context": func(l *listener) { l.stop() },
		"pool":    func(l *listener) { l.Close(); <-l.ended },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				waiting, telling, down := n.teller("waiting"), n.teller("telling", c), n.teller("down")
				plain := n.teller("plain").spoilWith(by(status(http.StatusNotFound)))
				mute := n.teller("mute").spoilWith(by(silence))
				down.host.down = true
				l := n.listen(t, waiting, telling, down, plain, mute)
				telling.say(c.begin(), c.shard(1))
				n.at(10*time.Second + 100*time.Millisecond)
				require.Equal(t, 1, waiting.held())
				require.Equal(t, 1, telling.held())
				cut := l.cut(t)
				before := time.Now()
				end(l)
				assert.Zero(t, time.Since(before))
				n.at(11 * time.Second)
				assert.Zero(t, waiting.held())
				assert.Zero(t, telling.held())
				for _, name := range []string{"waiting", "telling", "mute"} {
					assert.Empty(t, l.log.with(name), "an end of ours is nobody's failure")
				}
				assert.Empty(t, l.log.with("level=WARN"))
				asked := len(down.questions(cutsPath, 0)) + len(plain.questions(cutsPath, 0))
				n.at(time.Hour)
				assert.Equal(t, asked, len(down.questions(cutsPath, 0))+len(plain.questions(cutsPath, 0)))
				require.ErrorIs(t, cut.News(0).Err, fetch.ErrNoVersion, "nobody listens, so nobody tells")
			})
		})
	}
}

func TestFollowCutsOverSocketsEnds(t *testing.T) {
	c := cutting3()
	for name, end := range map[string]func(l *listener){
		"with its context": func(l *listener) { l.stop() },
		"with its pool":    func(l *listener) { l.Close(); <-l.ended },
	} {
		t.Run(name, func(t *testing.T) {
			waiting, telling := newTeller(), newTeller(c)
			l := listen(t, nil, newPool(t, fetch.Options{}, waiting.serve(t), telling.serve(t)), new(logbook))
			telling.say(c.begin())
			await(t, l.found)
			end(l) // and TestMain says whether anything is left
		})
	}
}

func TestFetchOfACutEndsWithItsContext(t *testing.T) {
	c := cutting3()
	simulate(t, published{}, func(t *testing.T, n *network) {
		origin := n.teller("origin", c)
		l := n.listen(t, origin)
		origin.say(c.begin(), c.shard(1))
		n.at(time.Second)
		cut := l.cut(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(time.Minute, func() { cancel(why) })
		_, _, err := l.Fetch(ctx, fetch.Task{
			Entry: cut.Entry(), Cut: cut, Open: func(shard.Manifest, int) (fetch.Sink, error) { return new(memory), nil },
		})
		require.ErrorIs(t, err, why)
		assert.Equal(t, time.Minute+time.Second, time.Since(n.start))
		require.NoError(t, cut.News(0).Err)
	})
}
