package watch

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched is an origin whose directory in is watched, round by round.
type watched struct {
	*watcher

	t     *testing.T
	in    string
	store *store.Store
}

func watching(t *testing.T, w Options) *watched {
	t.Helper()
	dir := t.TempDir()
	w.Dir = filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(w.Dir, 0o700))
	st, err := store.Open(filepath.Join(dir, "data"), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	return &watched{t: t, in: w.Dir, store: st, watcher: freshWatcher(st, w)}
}

func freshWatcher(st *store.Store, w Options) *watcher {
	return newWatcher(origin.New(st, 1000, 100, slog.New(slog.DiscardHandler)), st, w)
}

// restart is what a new process knows.
func (w *watched) restart() { w.watcher = freshWatcher(w.store, w.watch) }

func (w *watched) put(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(filepath.Join(w.in, name), []byte(text), 0o600))
}

// rounds goes on until nothing is complete any more, and returns what is listed.
func (w *watched) rounds() []distfile.Entry {
	w.t.Helper()
	for w.round(w.t.Context()) < time.Millisecond {
	}
	listed, err := w.store.Distribution()
	require.NoError(w.t, err)
	return listed
}

// atOnce has files be complete when they are seen.
var atOnce = Options{Glob: "*", Settle: time.Nanosecond}

func TestAWatchedFileIsPublishedOnce(t *testing.T) {
	w := watching(t, atOnce)
	w.put("a", "one")
	assert.Len(t, w.rounds(), 1)
	assert.Len(t, w.rounds(), 1)
	w.restart()
	assert.Len(t, w.rounds(), 1)
	w.put("a", "three")
	assert.Len(t, w.rounds(), 2)
}

func TestAWatchedFileSettles(t *testing.T) {
	w := watching(t, Options{Glob: "*", Settle: time.Hour})
	w.put("a", "one")
	assert.Empty(t, w.rounds())
	w.seen["a"].since = time.Now().Add(-time.Hour)
	w.put("a", "four")
	assert.Empty(t, w.rounds(), "it has changed")
	w.seen["a"].since = time.Now().Add(-time.Hour)
	assert.Len(t, w.rounds(), 1)
}

func TestAMarkerThatIsOlderThanTheFileDoesNotVouchForIt(t *testing.T) {
	w := watching(t, Options{Glob: "*", Marker: "stable", Settle: time.Hour})
	w.put("stable", "")
	long := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(w.in, "stable"), long, long))
	w.put("a", "one")
	assert.Empty(t, w.rounds())
	w.put("stable", "again")
	require.NoError(t, os.Chtimes(filepath.Join(w.in, "stable"), time.Now(), time.Now()))
	assert.Len(t, w.rounds(), 1)
}

func TestAFileThatChangesWhileItIsCutIsPublishedAsItIsAfterwards(t *testing.T) {
	w := watching(t, atOnce)
	w.put("a", "one")
	found, err := w.look()
	require.NoError(t, err)
	w.sight(found, time.Now())
	w.put("a", "three")
	w.take(t.Context(), found[0], w.seen["a"])
	listed, err := w.store.Distribution()
	require.NoError(t, err)
	assert.Empty(t, listed, "it is not what was seen")
	assert.Equal(t, 1, w.seen["a"].retries.Failures())
	assert.Positive(t, w.round(t.Context()), "it is tried again later")
	w.seen["a"].retry = time.Time{}
	assert.Len(t, w.rounds(), 1)
	m, err := w.store.Manifest(1)
	require.NoError(t, err)
	defer m.Close()
	manifest, err := shard.ParseManifest(m)
	require.NoError(t, err)
	assert.EqualValues(t, len("three"), manifest.Size)
}

func TestASpoiltRecordIsNamedWithTheRemedy(t *testing.T) {
	w := watching(t, atOnce)
	for name, text := range map[string]string{
		"nothing":             "",
		"half":                `{"files":{"a":{"size":3`,
		"of another kind":     `["a"]`,
		"no version":          `{"files":{"a":{"size":3,"version":"../v1"}}}`,
		"a size that is none": `{"files":{"a":{"size":1e30,"version":"v1"}}}`,
	} {
		require.NoError(t, w.store.SetWatched([]byte(text)))
		_, err := readRecord(w.store)
		require.ErrorContains(t, err, w.store.Dir()+"/.shardcast/watched.json", name)
		require.ErrorContains(t, err, "remove it", name)
	}
}

// A record that is accepted has files of versions alone, can be decided and written, and is
// the same then.
func FuzzRecord(f *testing.F) {
	for _, text := range []string{
		"", "{}", "null", "[]", `{"files":null}`, `{"files":{"../a":{"version":"v1","undecided":true}}}`,
		`{"files":{"a":{"size":-1,"mtime":1,"inode":18446744073709551615,"version":"v7","digest":"00"}}}`,
		`{"files":{"a\u0000":{"version":"v999999999999999999"},"":{"version":"v1"},"a":{"version":"v0"}}}`,
	} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, published bool) {
		r, err := parseRecord(text)
		if err != nil {
			require.Nil(t, r)
			return
		}
		for name, file := range r.Files {
			_, err := shard.ParseVersion(file.Version)
			require.NoError(t, err)
			r.decide(name, published)
		}
		r.forget(func(string) bool { return false })
		written, err := json.Marshal(r)
		require.NoError(t, err)
		again, err := parseRecord(written)
		require.NoError(t, err)
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(written), string(twice))
	})
}

func TestAKillBetweenTheRecordAndTheListingIsDecidedByTheListing(t *testing.T) {
	for name, published := range map[string]bool{"published": true, "not published": false} {
		t.Run(name, func(t *testing.T) {
			w := watching(t, atOnce)
			w.put("a", "one")
			require.Len(t, w.rounds(), 1)
			text, err := w.store.Watched()
			require.NoError(t, err)
			var r record
			require.NoError(t, json.Unmarshal(text, &r))
			one := r.Files["a"]
			assert.False(t, one.Undecided)
			one.Undecided = true
			if !published {
				one.Version = "v2"
			}
			r.Files["a"] = one
			require.NoError(t, r.write(w.store))
			w.restart()
			if published {
				assert.Len(t, w.rounds(), 1)
			} else {
				assert.Len(t, w.rounds(), 2)
			}
		})
	}
}

func TestARecordThatCannotBeReadPublishesNothing(t *testing.T) {
	w := watching(t, atOnce)
	w.put("a", "one")
	require.NoError(t, w.store.SetWatched([]byte("{")))
	assert.Equal(t, unreportedInterval, w.round(t.Context()))
	require.NoError(t, w.store.SetWatched([]byte("{}")))
	assert.Len(t, w.rounds(), 1)
}

func TestTheRecordForgetsTheOldestRemovedFiles(t *testing.T) {
	r := &record{Files: make(map[string]taken)}
	for i := range maxGone + 3 {
		v := shard.Version(i + 1).String()
		r.Files[v] = taken{Version: v}
	}
	r.forget(func(name string) bool { return name == "v1" })
	assert.Len(t, r.Files, maxGone+1)
	assert.Contains(t, r.Files, "v1")
	assert.NotContains(t, r.Files, "v2")
	assert.NotContains(t, r.Files, "v3")
	assert.Contains(t, r.Files, "v"+strconv.Itoa(maxGone+3))
}

func TestWatchingWithoutNews(t *testing.T) {
	w := watching(t, Options{Glob: "*", Settle: time.Millisecond})
	w.watch.unreported = true
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Run(ctx, w.origin, w.store, w.watch)
	}()
	w.put("a", "one")
	assert.Eventually(t, func() bool {
		listed, err := w.store.Distribution()
		return err == nil && len(listed) == 1
	}, time.Minute, time.Millisecond)
	stop()
	<-ended
}

func TestADirectoryExchangedForALinkPublishesNothingElse(t *testing.T) {
	w := watching(t, Options{Glob: "*/*", Settle: time.Nanosecond})
	outside := filepath.Join(filepath.Dir(w.in), "outside")
	for _, dir := range []string{outside, filepath.Join(w.in, "step")} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	w.put("step/a", "ours")
	looked, err := w.look()
	require.NoError(t, err)
	require.Len(t, looked, 1)
	// The file in the other directory looks the same.
	require.NoError(t, os.Link(filepath.Join(w.in, "step", "a"), filepath.Join(outside, "a")))
	require.NoError(t, os.Rename(filepath.Join(w.in, "step"), filepath.Join(w.in, ".step")))
	require.NoError(t, os.Symlink(outside, filepath.Join(w.in, "step")))
	require.Error(t, w.broadcast(t.Context(), looked[0]))
	assert.Empty(t, w.rounds())
}

func TestAFileExchangedAfterTheLookIsNotPublished(t *testing.T) {
	for name, put := range map[string]func(w *watched){
		"for a link":       func(w *watched) { require.NoError(w.t, os.Symlink("b", filepath.Join(w.in, "a"))) },
		"for a pipe":       func(w *watched) { require.NoError(w.t, syscall.Mkfifo(filepath.Join(w.in, "a"), 0o600)) },
		"for another file": func(w *watched) { w.put("a", "theirs") },
	} {
		t.Run(name, func(t *testing.T) {
			w := watching(t, Options{Glob: "a", Settle: time.Nanosecond})
			w.put("a", "ours")
			w.put("b", "theirs")
			looked, err := w.look()
			require.NoError(t, err)
			require.Len(t, looked, 1)
			require.NoError(t, os.Remove(filepath.Join(w.in, "a")))
			put(w)
			require.Error(t, w.broadcast(t.Context(), looked[0]))
		})
	}
}
