package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// patience is how long a test waits for an event that must come.
const patience = 30 * time.Second

func TestListsTag(t *testing.T) {
	digest := shard.Digest(sha256.Sum256(nil))
	tag := `"` + digest.String() + `"`
	for list, want := range map[string]bool{
		tag:                      true,
		"W/" + tag:               true,
		`"a", ` + tag:            true,
		`"a",W/"b",` + tag + ",": true,
		`"", ` + tag:             true,
		`"a,b" , ` + tag:         true,
		" ,\t, " + tag:           true,
		"":                       false,
		"*":                      false,
		"* , " + tag:             false,
		`"*"`:                    false,
		`"a"`:                    false,
		digest.String():          false,
		tag[1:]:                  false,
		tag[:len(tag)-1]:         false,
		"w/" + tag:               false,
		"a, " + tag:              false,
		strings.ToUpper(tag):     false,
		`W/`:                     false,
		`"`:                      false,
	} {
		assert.Equal(t, want, listsTag(list, digest.String()), "%q", list)
	}
}

// A request is held for a text that its If-None-Match names in quotes, and for no other: one that
// is not held although it gets 304 would be asked again without a pause.
func FuzzIfNoneMatch(f *testing.F) {
	digest := shard.Digest(sha256.Sum256(nil))
	tag := `"` + digest.String() + `"`
	for _, list := range []string{
		tag, "W/" + tag, `"a",W/"b",` + tag + ",", " ,\t, " + tag, "", "*", "* , " + tag, `"a"`, tag[1:],
		tag[:len(tag)-1], "w/" + tag, "a, " + tag, `"` + tag, tag + tag, "W/W/" + tag, `W/`, `"`,
		strings.Repeat(`"",`, 1000) + tag,
		"\x00" + tag, `"\"", ` + tag, "\n" + tag,
	} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		listed := listsTag(list, digest.String())
		require.Equal(t, listed, listsTag(`"a", W/"b" ,`+list, digest.String()), "tags before it do not matter")
		if listed {
			require.Contains(t, list, tag)
		}
		if strings.ContainsAny(list, "\r\n") {
			return // no line of a header has them, and net/http skips them
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("If-None-Match", list)
		w := httptest.NewRecorder()
		serve(w, r, plainText, digest, strings.NewReader("text"))
		if w.Code == http.StatusNotModified && !strings.Contains(list, "*") {
			require.True(t, listed)
		}
	})
}

// testListing is a listing of a new data directory in which a test may wait.
type testListing struct {
	*listing

	store *store.Store
	board *relay.Board
	name  string // of the file
}

func newTestListing(t *testing.T) testListing {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	board := relay.NewBoard()
	l := newListing(DialectOwn.besideRelease, catalog.New(st, board), t.Context().Done())
	return testListing{l, st, board, filepath.Join(dir, distfile.FileName)}
}

// watch has l watched until the test ends, and looked at every so often however quiet
// it is, and returns when it has been looked at.
func (l testListing) watch(t *testing.T, every time.Duration) {
	t.Helper()
	l.asked.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ls := &listings{root: l.listing, release: newListing(releaseOffer, l.catalog, nil)}
		l.catalog.Watch(ctx, ls, every, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	require.Eventually(t, func() bool { return l.latest.Load() != nil }, patience, time.Millisecond)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name+".new", []byte(text), 0o644))
	require.NoError(t, os.Rename(name+".new", name))
}

func textOf(content string) string {
	return fmt.Sprintf("v1: %s\n", shard.Digest(sha256.Sum256([]byte(content))))
}

func tag(o *offer) string { return `"` + o.tag + `"` }

// replacedSoon waits until there is another text than o, and returns it.
func replacedSoon(t *testing.T, l *listing, o *offer) string {
	t.Helper()
	late := time.After(patience)
	for {
		changed := l.changed.Wait()
		if now := l.latest.Load(); now != nil && now != o {
			return string(now.text)
		}
		select {
		case <-changed:
		case <-late:
			require.FailNow(t, "the change is not noticed")
			return ""
		}
	}
}

func TestTheSystemReportsChanges(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	name := l.name
	l.watch(t, time.Hour)
	for _, content := range []string{"one", "two", "three"} {
		before := l.latest.Load()
		write(t, name, textOf(content))
		assert.Equal(t, textOf(content), replacedSoon(t, l.listing, before))
	}
}

func TestTheSystemReportsReleases(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	l.watch(t, time.Hour)
	for _, text := range []string{"one", "two"} {
		changed := l.changed.Wait()
		write(t, filepath.Join(l.store.Dir(), release.FileName), text)
		select {
		case <-changed:
		case <-time.After(patience):
			require.FailNow(t, "the change is not noticed")
		}
		assert.Equal(t, shard.Digest(sha256.Sum256([]byte(text))), l.latest.Load().release)
	}
}

func TestTheBoardReportsChanges(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	l.watch(t, time.Hour)
	for v := range 3 {
		before := l.latest.Load()
		l.board.List(distfile.Entry{Version: shard.Version(v + 1)})
		assert.Len(t, strings.Split(replacedSoon(t, l.listing, before), "\n"), v+2)
	}
}

// Two writes within one tick of a file system's clock look the same.
func TestChangeThatDoesNotShowIsFound(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	name := l.name
	write(t, name, textOf("one"))
	// The system would tell; it is not asked.
	moved := l.store.Dir() + "-moved"
	require.NoError(t, os.Rename(l.store.Dir(), moved))
	name = filepath.Join(moved, distfile.FileName)
	info, err := os.Stat(name)
	require.NoError(t, err)
	l.watch(t, 100*time.Millisecond)
	before := l.latest.Load()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(textOf("two"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, os.Chtimes(name, info.ModTime(), info.ModTime()))
	assert.Equal(t, textOf("two"), replacedSoon(t, l.listing, before))
}

// What has failed for a reason that does not show in the file is tried again.
func TestFailedLookIsRepeated(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	l.watch(t, 10*time.Millisecond)
	before := l.latest.Load()
	l.latest.Store(nil)
	require.Eventually(t, func() bool { return l.latest.Load() != nil }, patience, time.Millisecond)
	assert.Same(t, before, l.latest.Load(), "the same text wakes no request")
}

func TestManyChangesAreLookedAtTogether(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	l.watch(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	looks := make(chan int, 1)
	go func() {
		count := 0
		for {
			select {
			case <-l.changed.Wait():
				count++
			case <-ctx.Done():
				looks <- count
				return
			}
		}
	}()
	start := time.Now()
	for v := range distfile.MaxEntries / 2 {
		l.board.List(distfile.Entry{Version: shard.Version(v + 1)})
	}
	want := distfile.MaxEntries / 2
	require.Eventually(t, func() bool { return strings.Count(string(l.latest.Load().text), "\n") == want }, patience,
		time.Millisecond)
	elapsed := time.Since(start)
	cancel()
	assert.LessOrEqual(t, <-looks, int(elapsed/catalog.LookPause)+2)
}

// Thousands that are woken together would have the file read thousands of times.
func TestWaitersDoNotLookForThemselves(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	name := l.name
	before, err := l.look()
	require.NoError(t, err)
	held, got := make(chan struct{}), make(chan *offer)
	l.mu.Lock() // a look would be held up now
	go func() {
		o, _ := l.await(t.Context(), tag(before), time.Hour, func() { close(held) })
		got <- o
	}()
	<-held
	after := &offer{tag: "after"}
	l.last = after
	l.latest.Store(after)
	l.changed.Raise()
	select {
	case o := <-got:
		assert.Same(t, after, o)
	case <-time.After(patience):
		assert.Fail(t, "it looks")
	}
	o, err := l.await(t.Context(), tag(after), time.Millisecond, func() {})
	require.NoError(t, err)
	assert.Same(t, after, o)
	l.mu.Unlock()
	write(t, name, textOf("one"))
	o, err = l.await(t.Context(), tag(before), time.Hour, func() {})
	require.NoError(t, err)
	assert.Equal(t, textOf("one"), string(o.text), "a client that knows another text gets the current one")
}

func TestAClientThatKnowsTheNewTextTooGoesOnWaiting(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	name := l.name
	one, err := l.look()
	require.NoError(t, err)
	write(t, name, textOf("two"))
	two, err := l.look()
	require.NoError(t, err)
	held, got := make(chan struct{}), make(chan *offer)
	go func() {
		o, _ := l.await(t.Context(), tag(one)+", "+tag(two), time.Hour, func() { close(held) })
		got <- o
	}()
	<-held
	for _, text := range []string{"", textOf("two"), "", textOf("three")} {
		write(t, name, text)
		_, err = l.look()
		require.NoError(t, err)
	}
	assert.Equal(t, textOf("three"), string((<-got).text))
}

func TestFirstWaiterAfterAChangeIsHeldToo(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	name := l.name
	for _, text := range []string{"", textOf("one")} { // not seen by anybody yet
		write(t, name, text)
		held, got := make(chan struct{}), make(chan *offer)
		go func() {
			known := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(text)))
			o, _ := l.await(t.Context(), known, time.Hour, func() { close(held) })
			got <- o
		}()
		select {
		case <-held:
		case <-got:
			require.FailNow(t, "it is not held")
		}
		write(t, name, textOf("two"))
		_, err := l.look()
		require.NoError(t, err)
		assert.Equal(t, textOf("two"), string((<-got).text))
	}
}

func TestNoRequestIsHeldAfterTheEnd(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	name := l.name
	before, err := l.look()
	require.NoError(t, err)
	over := make(chan struct{})
	close(over)
	l.over = over
	o, err := l.await(t.Context(), tag(before), time.Hour, func() {})
	require.NoError(t, err)
	assert.Same(t, before, o)
	write(t, name, textOf("one"))
	o, err = l.await(t.Context(), tag(before), time.Hour, func() { assert.Fail(t, "it is held") })
	require.NoError(t, err)
	assert.Equal(t, textOf("one"), string(o.text), "no watch looks any more")
}

func TestRequestIsNotHeldForAClientThatHasGone(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	_, err := l.look()
	require.NoError(t, err)
	held := make(chan struct{}, 1)
	h := newHandler(Options{
		Catalog: catalog.New(l.store, nil),
		Logger:  slog.New(heldHandler{slog.DiscardHandler, held}),
	}, l.over)
	_, err = h.listings.root.look()
	require.NoError(t, err)
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	conn, err := net.DialTimeout("tcp", srv.Listener.Addr().String(), patience)
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn,
		"GET /distribution.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: %s\r\nPrefer: wait=300\r\n\r\n", tag(l.last))
	require.NoError(t, err)
	<-held
	require.NoError(t, conn.Close())
	select {
	case <-ended:
	case <-time.After(patience):
		require.FailNow(t, "it is held for a client that has gone")
	}
}

type heldHandler struct {
	slog.Handler

	held chan<- struct{}
}

func (h heldHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h heldHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "request held" {
		h.held <- struct{}{}
	}
	return nil
}

// The system does not report what another machine writes on a network file system.
func TestAReleaseThatTheSystemDoesNotReportIsFound(t *testing.T) {
	t.Parallel()
	l := newTestListing(t)
	moved := l.store.Dir() + "-moved"
	require.NoError(t, os.Rename(l.store.Dir(), moved))
	l.watch(t, 100*time.Millisecond)
	before := l.latest.Load()
	changed := l.changed.Wait()
	write(t, filepath.Join(moved, release.FileName), "signed")
	select {
	case <-changed:
	case <-time.After(patience):
		require.FailNow(t, "the change is not noticed")
	}
	after := l.latest.Load()
	assert.Equal(t, before.tag+"-"+after.release.String(), after.tag)
	assert.Equal(t, shard.Digest(sha256.Sum256([]byte("signed"))), after.release)
}
