package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardcast/shardcast/internal/fetch"
)

// interval is that of the followers in these tests.
const interval = 30 * time.Second

// board is a server that offers versions, and holds its answers back when a client asks for
// that and the board knows how.
type board struct {
	host *host

	mu      sync.Mutex // guards the fields below
	knows   bool       // the preference
	text    string
	next    chan struct{} // closed and replaced when text changes, or the connections are cut
	epoch   int           // of connections that are cut together
	spoil   spoiler
	asked   []asking
	waiting int
}

// asking is one question to a board.
type asking struct {
	at   time.Duration // since the begin of the simulation
	wait time.Duration // that the client asked for
	etag string
}

// board adds a server that offers v1, and holds answers back if it knows how.
func (n *network) board(name string, knows bool) *board {
	b := &board{host: n.host(name, megabyte), knows: knows, next: make(chan struct{})}
	b.host.server.Handler = b
	b.offer(1)
	return b
}

// offer makes b offer v1 up to newest.
func (b *board) offer(newest int) {
	var text strings.Builder
	for v := 1; v <= newest; v++ {
		fmt.Fprintf(&text, "v%d: %s\n", v, one)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text.String()
	close(b.next)
	b.next = make(chan struct{})
}

// cutAll breaks off all connections that wait.
func (b *board) cutAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch++
	close(b.next)
	b.next = make(chan struct{})
}

// stop ends b like a process.
func (b *board) stop() {
	b.host.mu.Lock()
	b.host.down = true
	b.host.mu.Unlock()
	b.cutAll()
}

// restart starts b again after stop.
func (b *board) restart() {
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	b.host.down = false
}

// spoilWith makes s answer the questions to b, or, if s is nil, b itself.
func (b *board) spoilWith(s spoiler) *board {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spoil = s
	return b
}

func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(latency)
	if b.host.isDown() {
		panic(http.ErrAbortHandler) // a connection from before
	}
	seconds, _ := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Prefer"), "wait="))
	b.mu.Lock()
	b.asked = append(b.asked, asking{
		time.Since(b.host.network.start) - latency, time.Duration(seconds) * time.Second, r.Header.Get("If-None-Match"),
	})
	spoil := b.spoil
	b.mu.Unlock()
	if spoil == nil {
		b.answer(w, r)
	} else {
		spoil(w, r, http.HandlerFunc(b.answer))
	}
}

func (b *board) answer(w http.ResponseWriter, r *http.Request) {
	wait, waits := strings.CutPrefix(r.Header.Get("Prefer"), "wait=")
	b.mu.Lock()
	waits = waits && b.knows
	b.mu.Unlock()
	if waits {
		w.Header().Set("Preference-Applied", "wait="+wait)
		seconds, _ := strconv.Atoi(wait)
		b.hold(r, time.Duration(seconds)*time.Second)
	}
	b.mu.Lock()
	text, etag := b.text, b.etag()
	b.mu.Unlock()
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	fmt.Fprint(w, text)
}

func (b *board) etag() string { return fmt.Sprintf(`"%s"`, digestOf([]byte(b.text))) }

// hold returns when the text is another than that of r, or wait is over.
func (b *board) hold(r *http.Request, wait time.Duration) {
	b.mu.Lock()
	known, next, epoch := r.Header.Get("If-None-Match") == b.etag(), b.next, b.epoch
	b.waiting++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting--
		if b.epoch != epoch {
			panic(http.ErrAbortHandler)
		}
	}()
	if !known {
		return
	}
	select {
	case <-next:
	case <-time.After(wait):
	case <-r.Context().Done():
	}
}

// questions returns the questions to b from a time on.
func (b *board) questions(from time.Duration) []asking {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.asked), func(a asking) bool { return a.at < from })
}

// held returns the number of questions that b holds.
func (b *board) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// follower is a pool that follows, with the times of its calls.
type follower struct {
	*fetch.Pool

	network *network
	log     *logbook
	stop    context.CancelFunc

	mu    sync.Mutex // guards the fields below
	calls []time.Duration
	seen  map[int]time.Duration // when so many versions were first on offer
}

// follow makes a pool follow boards until it is stopped or the test ends.
func (n *network) follow(t *testing.T, opts fetch.Options, boards ...*board) *follower {
	t.Helper()
	f := &follower{network: n, log: new(logbook), seen: make(map[int]time.Duration)}
	opts.Logger = f.log.logger()
	var hosts []*host
	for _, b := range boards {
		hosts = append(hosts, b.host)
	}
	f.Pool = n.client(t, opts, 0, hosts...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Follow(ctx, interval, f.look)
	}()
	f.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(f.stop)
	return f
}

func (f *follower) look() {
	now := time.Since(f.network.start)
	offers := len(f.Offers())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, now)
	if _, ok := f.seen[offers]; !ok {
		f.seen[offers] = now
	}
}

// saw returns the time at which so many versions were first on offer.
func (f *follower) saw(versions int) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.seen[versions]; ok {
		return at
	}
	return never
}

func (f *follower) news() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

// at waits until a time of the simulation.
func (n *network) at(when time.Duration) {
	time.Sleep(time.Until(n.start.Add(when)))
	synctest.Wait()
}

// roundTrip is the most time that a question and its answer take, without a wait.
const roundTrip = latency + 10*time.Millisecond
