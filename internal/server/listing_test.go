package server_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
)

// pushing is a server that says which requests it holds.
type pushing struct {
	*running

	held chan struct{}
}

// servePushing serves what opts say, but for its logger.
func servePushing(t *testing.T, opts server.Options) pushing {
	t.Helper()
	held := make(chan struct{}, 10_000)
	opts.Logger = slog.New(heldHandler{slog.DiscardHandler, held})
	return pushing{serveAs(t, opts), held}
}

// heldHandler is a log that counts the requests that are held.
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

// waiter is a request that may be held.
type waiter struct {
	cancel context.CancelFunc
	answer chan answer // status 0 with the error for a body if there is none
}

// send sends a request for what is none of known, and does not wait for its answer.
func (h pushing) send(t *testing.T, known string, prefer ...string) waiter {
	t.Helper()
	return h.request(t, "/distribution.txt", http.Header{"If-None-Match": {known}, "Prefer": prefer})
}

// request sends a request for path, and does not wait for its answer.
func (h pushing) request(t *testing.T, path string, header http.Header) waiter {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+path, nil)
	require.NoError(t, err)
	request.Header = header
	w := waiter{cancel: cancel, answer: make(chan answer, 1)}
	go func() {
		defer cancel()
		resp, err := h.client.Do(request)
		if err != nil {
			w.answer <- answer{body: err.Error()}
			return
		}
		defer resp.Body.Close()
		if resp.Close {
			resp.Header.Set("Connection", "close") // as it came
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			body = []byte(err.Error())
		}
		w.answer <- answer{resp.StatusCode, resp.Header, string(body)}
	}()
	return w
}

// hold sends a request that is held, and returns when it is.
func (h pushing) hold(t *testing.T, known string, prefer ...string) waiter {
	t.Helper()
	w := h.send(t, known, prefer...)
	h.await(t, 1)
	return w
}

// await waits until so many more requests are held.
func (h pushing) await(t *testing.T, count int) {
	t.Helper()
	late := time.After(patience)
	for range count {
		select {
		case <-h.held:
		case <-late:
			require.FailNow(t, "the request is not held")
		}
	}
}

// get returns the answer.
func (w waiter) get(t *testing.T) answer {
	t.Helper()
	select {
	case a := <-w.answer:
		require.NotZero(t, a.status, a.body)
		return a
	case <-time.After(patience):
		require.FailNow(t, "no answer comes")
		return answer{}
	}
}

func tagOf(text string) string { return quoted(sha256.Sum256([]byte(text))) }

func line(v shard.Version, d shard.Digest) string { return fmt.Sprintf("%s: %s\n", v, d) }

func entryOf(v shard.Version, text string) distfile.Entry {
	return distfile.Entry{Version: v, Digest: sha256.Sum256([]byte(text))}
}

func TestRequestIsHeldUntilAnotherProcessPublishes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	here, there := open(t, dir), open(t, dir)
	claim(t, here)
	h := servePushing(t, server.Options{Catalog: catalog.New(here, nil)})
	want, known := "", tagOf("")
	for v, text := range []string{"", text, strings.ToUpper(text)} {
		if v == 0 {
			continue
		}
		w := h.hold(t, known, "wait=60")
		m := publish(t, there, shard.Version(v), text)
		want += line(shard.Version(v), m.Digest)
		known = tagOf(want)
		got := w.get(t)
		assert.Equal(t, http.StatusOK, got.status)
		assert.Equal(t, want, got.body)
		assert.Equal(t, known, got.header.Get("ETag"))
		assert.Equal(t, "wait=60", got.header.Get("Preference-Applied"))
		assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
		assert.Empty(t, got.header.Get("Vary"))
	}
	w := h.hold(t, known, "wait=60")
	retire(t, there, 1, 2)
	got := w.get(t)
	assert.Equal(t, http.StatusOK, got.status)
	assert.Empty(t, got.body)
}

func TestRequestIsHeldUntilTheBoardChanges(t *testing.T) {
	t.Parallel()
	st, board := open(t, t.TempDir()), relay.NewBoard()
	held := publish(t, st, 1, text).Digest
	h := servePushing(t, server.Options{Catalog: catalog.New(st, board)})
	arriving, again := entryOf(2, "two"), entryOf(1, "again")
	known := line(1, held)
	for _, step := range []struct {
		change func()
		want   string
	}{
		{func() { board.List(arriving) }, line(1, held) + line(2, arriving.Digest)},
		{func() { board.List(again) }, line(1, again.Digest) + line(2, arriving.Digest)},
		{func() { board.Unlist(1) }, line(1, held) + line(2, arriving.Digest)},
		{func() { board.Unlist(2) }, line(1, held)},
	} {
		w := h.hold(t, tagOf(known), "wait=60")
		step.change()
		got := w.get(t)
		assert.Equal(t, http.StatusOK, got.status)
		assert.Equal(t, step.want, got.body)
		assert.Equal(t, tagOf(step.want), got.header.Get("ETag"))
		assert.Equal(t, step.want, h.get(t, "/distribution.txt").body)
		known = step.want
	}
}

// A version moves between the board and the disk, as a middle has it, while others look: at
// each moment it is on one of them at least. The many lines make a look take long.
func TestAVersionThatMovesBetweenBoardAndDiskIsAlwaysListed(t *testing.T) {
	t.Parallel()
	st, board := open(t, t.TempDir()), relay.NewBoard()
	const lines = 2000
	moved := entryOf(lines, "moved")
	var without []distfile.Entry
	for v := range shard.Version(lines - 1) {
		without = append(without, entryOf(v+1, "there all the time"))
	}
	name := filepath.Join(st.Dir(), distfile.FileName)
	here := distfile.Encode(append(slices.Clone(without), moved))
	elsewhere := distfile.Encode(without)
	replace := func(text []byte) error {
		if err := os.WriteFile(name+".tmp", text, 0o600); err != nil {
			return err
		}
		return os.Rename(name+".tmp", name)
	}
	require.NoError(t, replace(here))
	site := newSiteAs(t, server.Options{Catalog: catalog.New(st, board)})
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil && !isClosed(enough) {
			board.List(moved)
			err = replace(elsewhere)
			time.Sleep(time.Millisecond) // about as long as a look takes
			err = errors.Join(err, replace(here))
			board.Unlist(moved.Version)
			time.Sleep(time.Millisecond)
		}
		ended <- err
	}()
	for range 200 {
		got := site.get(t, "/distribution.txt").body
		if !assert.True(t, got == string(here), "not listed") { //nolint:testifylint // too long to be printed
			break
		}
	}
	close(enough)
	require.NoError(t, <-ended)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestHeldRequestIsAnsweredWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	h := servePushing(t, server.Options{Catalog: catalog.New(open(t, t.TempDir()), nil)})
	start := time.Now()
	got := h.hold(t, tagOf(""), "wait=1").get(t)
	assert.GreaterOrEqual(t, time.Since(start), time.Second)
	assert.Equal(t, http.StatusNotModified, got.status)
	assert.Equal(t, tagOf(""), got.header.Get("ETag"))
	assert.Equal(t, "wait=1", got.header.Get("Preference-Applied"))
	assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
	assert.NotEqual(t, "close", got.header.Get("Connection"))
}

func TestOnlyAClientThatKnowsTheTextAndWantsToWaitIsHeld(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	want := line(1, publish(t, st, 1, text).Digest)
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	same, other := tagOf(want), tagOf("")
	for name, tc := range map[string]struct {
		known   string
		prefer  []string
		held    bool
		applied string
	}{
		"wait":                   {same, []string{"wait=300"}, true, "wait=300"},
		"weak":                   {"W/" + same, []string{"wait=300"}, true, "wait=300"},
		"in a list":              {other + " ,W/" + same, []string{"wait=300"}, true, "wait=300"},
		"longer than may be":     {same, []string{"wait=301"}, true, "wait=300"},
		"of several fields":      {same, []string{"respond-async", "handling=lenient", "wait=7"}, true, "wait=7"},
		"another text":           {other, []string{"wait=300"}, false, "wait=300"},
		"no text":                {"", []string{"wait=300"}, false, "wait=300"},
		"any text":               {"*", []string{"wait=300"}, false, "wait=300"},
		"not a list":             {same[1:], []string{"wait=300"}, false, "wait=300"},
		"no time":                {same, []string{"wait=0"}, false, "wait=0"},
		"no preference":          {same, nil, false, ""},
		"another preference":     {same, []string{"respond-async"}, false, ""},
		"what is no number":      {same, []string{"wait=soon"}, false, ""},
		"what is no number, too": {same, []string{"wait=-1", "wait=60"}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := h.send(t, tc.known, tc.prefer...)
			if tc.held {
				h.await(t, 1)
				assert.Empty(t, w.answer)
				w.cancel()
				return
			}
			a := w.get(t)
			assert.Empty(t, h.held)
			assert.Equal(t, tc.applied, a.header.Get("Preference-Applied"))
			if tc.known == same || tc.known == "*" {
				assert.Equal(t, http.StatusNotModified, a.status)
			} else {
				assert.Equal(t, want, a.body)
			}
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		got := h.ask(t, http.MethodHead, "/distribution.txt", "If-None-Match", same, "Prefer", "wait=300")
		assert.Equal(t, http.StatusNotModified, got.status)
		assert.Empty(t, got.header.Get("Preference-Applied"))
	})
	t.Run("body", func(t *testing.T) {
		conn := dial(t, h.addr)
		_, err := fmt.Fprintf(conn, "GET /distribution.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"+
			"If-None-Match: %s\r\nPrefer: wait=300\r\n\r\n.", same)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusNotModified, resp.StatusCode)
		assert.Empty(t, resp.Header.Get("Preference-Applied"))
	})
	t.Run("another path", func(t *testing.T) {
		got := h.get(t, "/healthz", "If-None-Match", tagOf("ok\n"), "Prefer", "wait=300")
		assert.Equal(t, http.StatusNotModified, got.status)
		assert.Empty(t, got.header.Get("Preference-Applied"))
	})
	assert.Empty(t, h.held)
}

func TestNothingIsHeldWithoutAServer(t *testing.T) {
	got := newSite(t, open(t, t.TempDir())).get(t, "/distribution.txt",
		"If-None-Match", tagOf(""), "Prefer", "wait=300")
	assert.Equal(t, http.StatusNotModified, got.status)
	assert.Empty(t, got.header.Get("Preference-Applied"))
}

func TestServeAnswersHeldRequestsWhenItEnds(t *testing.T) {
	t.Parallel()
	h := servePushing(t, server.Options{Catalog: catalog.New(open(t, t.TempDir()), nil)})
	waiters := make([]waiter, 100)
	for i := range waiters {
		waiters[i] = h.send(t, tagOf(""), "wait=300")
	}
	h.await(t, len(waiters))
	h.end()
	for _, w := range waiters {
		got := w.get(t)
		assert.Equal(t, http.StatusNotModified, got.status)
		assert.Equal(t, "close", got.header.Get("Connection"))
	}
	require.NoError(t, h.wait(t))
}

func TestAllWaitersGetTheChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := servePushing(t, server.Options{Catalog: catalog.New(open(t, dir), nil)})
	waiters := make([]waiter, 1000)
	for i := range waiters {
		waiters[i] = h.send(t, tagOf(""), "wait=300")
	}
	h.await(t, len(waiters))
	want := line(1, publish(t, open(t, dir), 1, text).Digest)
	for _, w := range waiters {
		require.Equal(t, want, w.get(t).body)
	}
}

func TestHeldRequestsCountForNoLimit(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	want := line(1, publish(t, st, 1, text).Digest)
	h := servePushing(t,
		server.Options{Catalog: catalog.New(st, nil), Limits: slots.Limits{Connections: 1, ConnectionsPerClient: 1}})
	for range 3 {
		h.hold(t, tagOf(want), "wait=300")
	}
	assert.Equal(t, http.StatusOK, h.get(t, "/v1/shard_001.bin").status)
}

// A client that closes its half of the connection gets no empty answer.
func TestAClientThatAsksForTheLastTimeIsAnswered(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	want := line(1, publish(t, st, 1, text).Digest)
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	conn := dial(t, h.addr)
	_, err := fmt.Fprintf(conn,
		"GET /distribution.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: %s\r\nPrefer: wait=300\r\n\r\n", tagOf(want))
	require.NoError(t, err)
	h.await(t, 1)
	require.NoError(t, conn.CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusNotModified, resp.StatusCode)
	assert.Equal(t, tagOf(want), resp.Header.Get("ETag"))
}

// move moves a data directory, which ends the watch of it.
func move(t *testing.T, dir string) (there string) {
	t.Helper()
	there = dir + "-moved"
	require.NoError(t, os.Rename(dir, there))
	return there
}

func TestChangesAreFoundWithoutAWatch(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"never had": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			st := open(t, dir)
			there := dir
			if early {
				there = move(t, dir)
			}
			h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
			first := h.hold(t, tagOf(""), "wait=300")
			if !early {
				there = move(t, dir)
			}
			want := line(1, publish(t, open(t, there), 1, text).Digest)
			assert.Equal(t, want, first.get(t).body)
		})
	}
}

func TestDistributionThatIsGoneOffersNothing(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(dir string) error{
		"file":      func(dir string) error { return os.Remove(filepath.Join(dir, "distribution.txt")) },
		"directory": os.RemoveAll,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			st := open(t, dir)
			want := line(1, publish(t, st, 1, text).Digest)
			h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
			w := h.hold(t, tagOf(want), "wait=300")
			require.NoError(t, remove(dir))
			got := w.get(t)
			assert.Equal(t, http.StatusOK, got.status)
			assert.Empty(t, got.body)
			if name == "directory" {
				return
			}
			w = h.hold(t, tagOf(""), "wait=300")
			write(t, filepath.Join(dir, "distribution.txt"), want)
			assert.Equal(t, want, w.get(t).body)
		})
	}
}

// No client gets a state that lasted for less than a look, but all get the last one.
func TestNoChangeIsLostAmongMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := servePushing(t, server.Options{Catalog: catalog.New(open(t, dir), nil)})
	final := line(1, sha256.Sum256([]byte("1999")))
	done := make(chan error, 1)
	go func() {
		var err error
		for i := range 2000 {
			name := filepath.Join(dir, "new")
			err = cmp.Or(err,
				os.WriteFile(name, []byte(line(1, sha256.Sum256(fmt.Append(nil, i)))), 0o644),
				os.Rename(name, filepath.Join(dir, "distribution.txt")))
		}
		done <- err
	}()
	known, answers := "", 0
	for known != final {
		known = h.send(t, tagOf(known), "wait=300").get(t).body
		answers++
	}
	require.NoError(t, <-done)
	assert.Greater(t, answers, 1)
}

func TestDistributionThatCannotBeReadIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	known := line(1, publish(t, st, 1, text).Digest)
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	long, short := h.hold(t, tagOf(known), "wait=300"), h.hold(t, tagOf(known), "wait=1")
	write(t, filepath.Join(dir, "new"), strings.Repeat("\n", distfile.MaxSize+1)) // not seen half written
	require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "distribution.txt")))
	assert.Equal(t, http.StatusInternalServerError, h.get(t, "/distribution.txt").status)
	got := short.get(t)
	assert.Equal(t, http.StatusInternalServerError, got.status, "it may have changed")
	assert.Empty(t, got.header.Get("Preference-Applied"))
	assert.Equal(t, http.StatusInternalServerError, h.send(t, tagOf(known), "wait=300").get(t).status)
	require.Empty(t, long.answer)
	write(t, filepath.Join(dir, "distribution.txt"), "")
	assert.Equal(t, http.StatusOK, long.get(t).status)
}

// Others retire what no server lists any more.
func TestVersionOnItsWayBetweenBoardAndDiskIsAlwaysListed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, board := open(t, dir), relay.NewBoard()
	e := entryOf(1, text)
	with := line(1, e.Digest)
	put := func(text string) error {
		name := filepath.Join(dir, "new")
		return cmp.Or(os.WriteFile(name, []byte(text), 0o644), os.Rename(name, filepath.Join(dir, "distribution.txt")))
	}
	require.NoError(t, put(with))
	h := servePushing(t, server.Options{Catalog: catalog.New(st, board)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			board.List(e)
			err = put("")
			err = cmp.Or(err, put(with))
			board.Unlist(1)
		}
		done <- err
	}()
	for range 500 {
		assert.Equal(t, with, h.get(t, "/distribution.txt").body)
	}
	cancel()
	require.NoError(t, <-done)
}

func TestNewestVersionsAreListed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var entries []distfile.Entry
	for v := range distfile.MaxEntries {
		entries = append(entries, distfile.Entry{Version: shard.Version(v + 1)})
	}
	write(t, filepath.Join(dir, "distribution.txt"), string(distfile.Encode(entries)))
	board := relay.NewBoard()
	board.List(entryOf(distfile.MaxEntries+1, "new"))
	board.List(entryOf(5, "other"))
	h := servePushing(t, server.Options{Catalog: catalog.New(open(t, dir), board)})
	want := append(entries[1:], entryOf(distfile.MaxEntries+1, "new"))
	want[3] = entryOf(5, "other")
	assert.Equal(t, string(distfile.Encode(want)), h.get(t, "/distribution.txt").body)
}
