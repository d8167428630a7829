package store_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestPublishedVersionsAreListedAscending(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	for _, v := range []shard.Version{7, 12, 9, 2} {
		publishAs(t, st, v, 10, textOf(v))
	}
	requireWhole(t, st, 2, 7, 9, 12)
	assert.Equal(t, distribution(2, 7, 9, 12), read(t, dir, distfile.FileName))
	assert.Equal(t, clean(2, 7, 9, 12), tree(t, dir))
	requireWhole(t, open(t, dir, store.Middle), 2, 7, 9, 12)
}

func TestPublishRetiresTheOldestBeyondKeep(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	for v := shard.Version(1); v <= 5; v++ {
		publish(t, st, 3)
	}
	requireWhole(t, st, 3, 4, 5)
	assert.Equal(t, clean(3, 4, 5), tree(t, dir))
	publish(t, st, 1)
	requireWhole(t, st, 6)
	assert.Equal(t, clean(6), tree(t, dir))
}

func TestPublishOfAVersionTooOldToKeepChangesNothingOnOffer(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	publishAs(t, st, 8, 2, textOf(8))
	publishAs(t, st, 9, 2, textOf(9))
	publishAs(t, st, 4, 2, textOf(4))
	requireWhole(t, st, 8, 9)
	require.NoError(t, st.DiscardDrafts(func(shard.Version) bool { return false }))
	assert.Equal(t, clean(8, 9), tree(t, dir))
}

func TestPublishOfAVersionTooOldToKeepLeavesTheReadersOfARetiredOne(t *testing.T) {
	st := open(t, t.TempDir(), store.Middle)
	claim(t, st)
	publishAs(t, st, 4, 1, textOf(4))
	reading, done, err := st.Shard(4, 1)
	require.NoError(t, err)
	defer done()
	defer reading.Close()
	publishAs(t, st, 5, 1, textOf(5))
	publishAs(t, st, 4, 1, textOf(4))

	requireWhole(t, st, 5)
	text, err := content(st, 4)
	require.NoError(t, err)
	assert.Equal(t, textOf(4), text)
}

// A reader must never see a listed version without all of its bytes, whenever
// it looks.
func TestListedVersionsAreWholeWhileOthersArePublished(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, publisher := open(t, dir, store.Origin), open(t, dir, store.Origin)
	claim(t, server)
	published := make(chan error, 1)
	go func() {
		for range 30 {
			if _, err := broadcast(t.Context(), publisher, 2); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	for {
		entries, err := server.Distribution()
		require.NoError(t, err)
		require.LessOrEqual(t, len(entries), 2)
		for _, e := range entries {
			text, err := content(server, e.Version)
			require.NoError(t, err, e.Version)
			require.Equal(t, e.Digest, digest(text))
		}
		select {
		case err := <-published:
			require.NoError(t, err)
			requireWhole(t, server, 29, 30)
			return
		default:
		}
	}
}

func TestFailedPublishLeavesTheOfferAndTheDraft(t *testing.T) {
	for name, obstacle := range map[string]string{
		"the state cannot be written":        ".shardcast/state.json.tmp/full",
		"the distribution cannot be written": ".shardcast/distribution.txt.tmp/full",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			publish(t, st, 5)
			keeping(t, st, 1)
			d, m := draft(t, st, 2, textOf(2))
			fail := func(w *store.Writer) {
				require.Error(t, w.Publish(d, m))
				requireWhole(t, st, 1)
				_, err := st.Manifest(2)
				require.ErrorIs(t, err, fs.ErrNotExist)
			}

			w, err := st.Lock(t.Context())
			require.NoError(t, err)
			write(t, dir, obstacle, "in the way")
			fail(w)
			fail(w)
			require.NoError(t, w.Unlock())
			requireWhole(t, st, 1)

			require.NoError(t, os.RemoveAll(filepath.Join(dir, filepath.Dir(obstacle))))
			change(t, st, func(w *store.Writer) {
				require.NoError(t, w.Publish(d, m), "the draft is still there after a recovery")
			})
			requireWhole(t, st, 2)
			assert.Equal(t, clean(2), tree(t, dir))
			assert.Equal(t, shard.Version(3), next(t, st))
		})
	}
}

func TestPublishOfAListedVersionNeverTakesItsDirectoryAway(t *testing.T) {
	for _, keep := range []int{1, 5} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			st := open(t, t.TempDir(), store.Middle)
			publishAs(t, st, 3, keep, textOf(3))
			d, m := draft(t, st, 3, textOf(3))
			change(t, st, func(w *store.Writer) {
				_ = w.Publish(d, m) // whether it is refused or taken in place of the other
			})
			recoverCrash(t, st)
			requireWhole(t, st, 3)
		})
	}
}

func TestNextNeverReusesANumber(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	reopen := func() {
		require.NoError(t, st.Close())
		st = open(t, dir, store.Origin)
	}
	require.Equal(t, shard.Version(1), next(t, st))
	require.Equal(t, shard.Version(1), next(t, st), "asking uses nothing up")
	require.Equal(t, shard.Version(1), publish(t, st, 5))
	require.Equal(t, shard.Version(2), publish(t, st, 1))
	change(t, st, func(w *store.Writer) {
		require.NoError(t, w.Retire("a test", 2))
		v, err := w.Next()
		require.NoError(t, err)
		require.Equal(t, shard.Version(3), v, "after all are retired")
	})
	require.Empty(t, offered(t, st))
	reopen()
	require.Equal(t, shard.Version(3), publish(t, st, 5))
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Reopen(3)) })
	reopen()
	require.Equal(t, shard.Version(4), next(t, st), "after it was withdrawn")

	require.NoError(t, os.Remove(filepath.Join(dir, distfile.FileName)))
	require.Equal(t, shard.Version(4), publish(t, st, 5), "without a distribution")

	for _, foreign := range []string{"v5/file", "v6", "v7/file"} {
		write(t, dir, foreign, "foreign")
	}
	require.Equal(t, shard.Version(8), publish(t, st, 5))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "v7")))
	require.Equal(t, shard.Version(9), publish(t, st, 5), "a number that was passed over")

	d, m := draft(t, st, 10, textOf(10))
	change(t, st, func(w *store.Writer) {
		require.NoError(t, w.Publish(d, m))
		require.NoError(t, w.Retire("a test", 10))
		v, err := w.Next()
		require.NoError(t, err)
		require.Equal(t, shard.Version(11), v)
	})
	reopen()
	require.Equal(t, shard.Version(11), next(t, st), "published and retired by one writer")

	publishAs(t, st, 100, 9, textOf(100))
	require.Equal(t, shard.Version(101), next(t, st))
	publishAs(t, st, 50, 9, textOf(50))
	require.Equal(t, shard.Version(101), next(t, st))
	requireWhole(t, st, 4, 8, 9, 50, 100)
}

func TestNextCountsVersionsListedByAnotherProgram(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, distfile.FileName, fmt.Sprintf("v4: %s|3\nv11: %s|1\n", digest("four"), digest("eleven")))
	assert.Equal(t, shard.Version(12), next(t, open(t, dir, store.Origin)))
}

func TestNextIsAlwaysAVersionThatCanBeListed(t *testing.T) {
	const highest = shard.Version(999_999_999_999_999_999)
	st := open(t, t.TempDir(), store.Middle)
	publishAs(t, st, highest, 5, textOf(highest))
	change(t, st, func(w *store.Writer) {
		v, err := w.Next()
		if err == nil {
			_, err := shard.ParseVersion(v.String())
			require.NoError(t, err)
		}
	})
}

func TestRetireTakesVersionsOffTheOffer(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	for range 4 {
		publish(t, st, 5)
	}
	change(t, st, func(w *store.Writer) {
		require.NoError(t, w.Retire("a test", 1, 3))
		requireWhole(t, st, 2, 4)
		require.NoError(t, w.Retire("a test", 1, 3), "they are gone already")
		require.NoError(t, w.Retire("a test"))
	})
	requireWhole(t, st, 2, 4)
	assert.Equal(t, clean(2, 4), tree(t, dir))
}

func TestRetiredVersionCanBeReadUntilItsReadersHaveLeft(t *testing.T) {
	dir := t.TempDir()
	server, publisher := open(t, dir, store.Origin), open(t, dir, store.Origin)
	claim(t, server)
	publish(t, publisher, 5)
	publish(t, publisher, 5)
	first, firstDone, err := server.Shard(1, 1)
	require.NoError(t, err)
	defer first.Close()

	change(t, publisher, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1)) })
	requireWhole(t, server, 2)
	second, secondDone, err := server.Shard(1, 2)
	require.NoError(t, err, "the next shard of the version that is being read")
	defer second.Close()
	firstDone()
	require.NoError(t, server.Sweep(0))
	text, err := content(server, 1)
	require.NoError(t, err)
	assert.Equal(t, textOf(1), text)

	secondDone()
	require.NoError(t, server.Sweep(0))
	_, _, err = server.Shard(1, 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = server.Manifest(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, clean(2), tree(t, dir))
	got, err := io.ReadAll(first)
	require.NoError(t, err)
	assert.Equal(t, textOf(1)[:16], string(got), "an open file stays readable")
}

func TestWithoutAServerRetiredVersionsAreRemovedAtOnce(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	publish(t, st, 1)
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Retire("a test", 1))
	_, err = content(st, 1)
	require.NoError(t, err, "before the lock is given back")
	require.NoError(t, w.Unlock())
	_, err = content(st, 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, clean(), tree(t, dir))
}

func TestSweepWaitsForTheIdleTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := open(t, dir, store.Origin)
		claim(t, st)
		publish(t, st, 5)
		publish(t, st, 5)
		publish(t, st, 5)
		_, done, err := st.Shard(1, 1)
		require.NoError(t, err)
		change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1, 2)) })
		held := func() (versions []string) {
			entries, err := os.ReadDir(filepath.Join(dir, ".shardcast", "retired"))
			require.NoError(t, err)
			for _, e := range entries {
				versions = append(versions, e.Name())
			}
			return versions
		}
		for _, step := range []struct {
			wait time.Duration
			do   func()
			want []string
		}{
			{0, func() {}, []string{"v1", "v2"}},
			{59 * time.Second, func() {}, []string{"v1", "v2"}},
			{time.Second, func() {}, []string{"v1"}}, // v2 was found retired by the first sweep, and never read
			{time.Hour, done, []string{"v1"}},
			{59 * time.Second, func() {}, []string{"v1"}},
			{time.Second, func() {}, nil},
		} {
			time.Sleep(step.wait)
			step.do()
			require.NoError(t, st.Sweep(time.Minute))
			require.Equal(t, step.want, held())
		}
		requireWhole(t, st, 3)
	})
}

func TestReopenMakesADraftAgain(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	claim(t, st)
	publish(t, st, 5)
	publish(t, st, 5)
	old, _ := draft(t, st, 1, "what an earlier run has left of it")
	reading, done, err := st.Shard(1, 1)
	require.NoError(t, err)
	defer done()
	defer reading.Close()

	change(t, st, func(w *store.Writer) {
		require.NoError(t, w.Reopen(1))
		require.NoError(t, w.Reopen(1), "it is a draft already")
		require.NoError(t, w.Reopen(9), "there is no such version")
	})
	requireWhole(t, st, 2)
	_, _, err = st.Shard(1, 1)
	require.ErrorIs(t, err, fs.ErrNotExist)

	m, err := old.Manifest()
	require.NoError(t, err)
	assert.Equal(t, digest(textOf(1)), m.Digest)
	f, err := old.Read(3)
	require.NoError(t, err)
	require.NoError(t, m.Shard(3).Verify(f, make([]byte, 64)))
	require.NoError(t, f.Close())

	w, err := old.Create(1)
	require.NoError(t, err)
	_, err = io.WriteString(w, textOf(1)[:16])
	require.NoError(t, err)
	require.NoError(t, w.Commit())
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(old, m)) })
	requireWhole(t, st, 1, 2)
	got, err := io.ReadAll(reading)
	require.NoError(t, err)
	assert.Equal(t, textOf(1)[:16], string(got))
}

// A version can come back under its number with other bytes, when the upstream
// of a middle has lost its data directory.
func TestReplacedVersionIsNotMixedWithTheFormerOne(t *testing.T) {
	st := open(t, t.TempDir(), store.Middle)
	claim(t, st)
	publishAs(t, st, 1, 5, "the old file, which has three shards")
	reading, done, err := st.Shard(1, 3)
	require.NoError(t, err)
	defer done()
	defer reading.Close()
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1)) })
	publishAs(t, st, 1, 5, "the new one")

	text, err := content(st, 1)
	require.NoError(t, err)
	assert.Equal(t, "the new one", text)
	for number := 2; number <= 3; number++ {
		f, done, err := st.Shard(1, number)
		if err == nil {
			done()
			f.Close()
		}
		require.ErrorIs(t, err, fs.ErrNotExist, "shard %d is the old version's", number)
	}
	got, err := io.ReadAll(reading)
	require.NoError(t, err)
	assert.Equal(t, "ards", string(got), "an open file stays readable")
}

func TestSweepRemovesARetiredVersionWhoseNumberIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	claim(t, st)
	publishAs(t, st, 1, 5, "the old file, which has three shards")
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1)) })
	publishAs(t, st, 1, 5, textOf(1))
	reading, done, err := st.Shard(1, 1)
	require.NoError(t, err)
	defer done()
	defer reading.Close()

	require.NoError(t, st.Sweep(0))
	assert.Equal(t, clean(1), tree(t, dir))
}

func TestUnlockAfterACancelledContextGivesTheLockBack(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := st.Lock(ctx)
	require.NoError(t, err)
	cancel()
	require.NoError(t, w.Unlock())
	assert.Equal(t, shard.Version(1), publish(t, open(t, dir, store.Origin), 5))
}

func TestLeftoversOfOneNameAreReplacedWhenTheVersionIsRetiredAgain(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	claim(t, st)
	for _, text := range []string{"the old file, which has three shards", textOf(1)} {
		publishAs(t, st, 1, 5, text)
		change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1)) })
	}
	text, err := content(st, 1)
	require.NoError(t, err)
	assert.Equal(t, textOf(1), text)
}

// For want of descriptors, say, or because another file has its name.
func TestRetiredVersionsStayIfTheServersLockCannotBeLookedAt(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	publish(t, st, 10)
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".shardcast", "shardcast-origin.lock"), 0o700))
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1)) })
	assert.DirExists(t, filepath.Join(dir, ".shardcast", "retired", "v1"))
	require.NoError(t, os.Remove(filepath.Join(dir, ".shardcast", "shardcast-origin.lock")))
	change(t, st, func(*store.Writer) {})
	assert.NoDirExists(t, filepath.Join(dir, ".shardcast", "retired", "v1"))
}

func TestANumberOfAMiddleThatIsFarAheadUsesUpNone(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	publishAs(t, st, 7, 9, textOf(7))
	publishAs(t, st, shard.MaxVersion, 9, textOf(8))
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 7, shard.MaxVersion)) })
	require.NoError(t, st.Close())
	require.Equal(t, shard.Version(8), next(t, open(t, dir, store.Origin)))
}

func TestVersionsBesideOthersTakeNoPlaces(t *testing.T) {
	st := open(t, t.TempDir(), store.Middle)
	var beside []distfile.Entry
	st.Beside(func() []distfile.Entry { return beside })
	for v := range shard.Version(2) {
		publishAs(t, st, v+1, 2, textOf(v+1))
	}
	for v := range shard.Version(3) {
		d, m := draft(t, st, v+11, textOf(v+11))
		beside = append(beside, distfile.Entry{Version: v + 11, Digest: m.Digest})
		change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	}
	requireWhole(t, st, 1, 2, 12, 13)
	beside = nil
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Trim()) })
	requireWhole(t, st, 12, 13)
}
