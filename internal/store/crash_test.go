package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
	"github.com/shardcast/shardcast/internal/store"
)

// stop is the end of a writer's process between two of its steps.
type stop struct{}

// stopped has a writer of st do f, and stops it before its step n, counted from 1. It
// reports whether there was such a step: otherwise the writer has done f and left.
func stopped(t tb, st *store.Store, n int, f func(w *store.Writer) error) (early bool) {
	t.Helper()
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	defer st.OnStep(func() {})
	defer func() {
		switch end := recover(); end {
		case nil:
		case stop{}:
			early = true
			require.NoError(t, w.Abandon())
		default:
			panic(end)
		}
	}()
	st.OnStep(func() {
		if n--; n == 0 {
			panic(stop{})
		}
	})
	require.NoError(t, f(w))
	require.NoError(t, w.Unlock())
	return false
}

// tasks are changes of a directory that offers v1 and v2 and has a draft of v3, and the
// versions on offer after each, in a directory that keeps so many.
func tasks() map[string]struct {
	keep  int
	do    func(w *store.Writer, d *store.Draft, m shard.Manifest) error
	after []shard.Version
} {
	publish := (*store.Writer).Publish
	return map[string]struct {
		keep  int
		do    func(w *store.Writer, d *store.Draft, m shard.Manifest) error
		after []shard.Version
	}{
		"publish":                 {3, publish, []shard.Version{1, 2, 3}},
		"publish and retire":      {2, publish, []shard.Version{2, 3}},
		"publish and retire both": {1, publish, []shard.Version{3}},
		"retire": {5, func(w *store.Writer, _ *store.Draft, _ shard.Manifest) error {
			return w.Retire("a test", 2)
		}, []shard.Version{1}},
		"withdraw": {5, func(w *store.Writer, _ *store.Draft, _ shard.Manifest) error {
			return w.Reopen(2)
		}, []shard.Version{1}},
	}
}

// prepared is a data directory of role with two versions and a draft of the third.
func prepared(t *testing.T, role store.Role) (dir string) {
	t.Helper()
	dir = t.TempDir()
	st := open(t, dir, role)
	publishAs(t, st, 1, 5, textOf(1))
	publishAs(t, st, 2, 5, textOf(2))
	d, m := draft(t, st, 3, textOf(3))
	require.NoError(t, d.SetManifest(m))
	// A server has removed older versions of the same numbers by half.
	for v := shard.Version(1); v <= 3; v++ {
		write(t, dir, ".shardcast/retired/"+v.String()+"/shard_003.bin", "of an older one")
	}
	return dir
}

// eachStop has a writer do each task in a directory of role, over and over, and stops it one
// step later each time. It calls check after each stop with the versions that are on offer
// and those in place.
func eachStop(t *testing.T, role store.Role, check func(t *testing.T, dir string, listed, inPlace []shard.Version)) {
	t.Helper()
	template := prepared(t, role)
	before := []shard.Version{1, 2}
	for name, task := range tasks() {
		t.Run(name, func(t *testing.T) {
			done := false
			for n, early := 1, true; early; n++ {
				dir := filepath.Join(t.TempDir(), "data")
				require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
				st := open(t, dir, role)
				keeping(t, st, task.keep)
				d, err := st.Draft(3)
				require.NoError(t, err)
				m, err := d.Manifest()
				require.NoError(t, err)
				early = stopped(t, st, n, func(w *store.Writer) error { return task.do(w, d, m) })

				// Readers find all that is listed, at any moment.
				listed := offered(t, st)
				done = done || slices.Equal(task.after, listed)
				if done {
					requireWhole(t, st, task.after...)
				} else {
					requireWhole(t, st, before...)
				}
				var inPlace []shard.Version
				for v := shard.Version(1); v <= 3; v++ {
					if st.Holds(v) {
						inPlace = append(inPlace, v)
					}
				}
				require.NoError(t, st.Close())
				check(t, dir, listed, inPlace)
				require.True(t, done || early)
				if !early {
					require.Greater(t, n, 3, "the writer has at least three steps: state, list, state")
				}
			}
		})
	}
}

func TestCrashIsUndoneByTheNextWriter(t *testing.T) {
	t.Parallel()
	for _, role := range []store.Role{store.Origin, store.Middle} {
		t.Run(string(role), func(t *testing.T) {
			eachStop(t, role, func(t *testing.T, dir string, listed, inPlace []shard.Version) {
				t.Helper()
				for _, tmp := range []string{"state.json.tmp", "distribution.txt.tmp"} {
					write(t, dir, ".shardcast/"+tmp, "half written")
				}
				st := open(t, dir, role)
				used := max(slices.Max(listed), slices.Max(inPlace))
				for range 2 {
					assert.Greater(t, next(t, st), used, "a number is used twice")
					requireWhole(t, st, listed...)
				}
				for _, v := range inPlace {
					if slices.Contains(listed, v) || role != store.Middle {
						continue
					}
					// What a middle has verified is not fetched again because of a crash.
					d, err := st.Draft(v)
					require.NoError(t, err)
					_, err = d.Manifest()
					require.NoError(t, err)
					for number := 1; number <= 3; number++ {
						f, err := d.Read(number)
						require.NoError(t, err)
						require.NoError(t, f.Close())
					}
				}
				require.NoError(t, st.DiscardDrafts(func(shard.Version) bool { return false }))
				assert.Equal(t, clean(listed...), tree(t, dir))
				v := publish(t, st, 5)
				requireWhole(t, st, append(slices.Clone(listed), v)...)
				require.NoError(t, st.Close())
			})
		})
	}
}

func TestRecoveryLetsReadersFinish(t *testing.T) {
	t.Parallel()
	template := prepared(t, store.Origin)
	for n, early := 1, true; early; n++ {
		dir := filepath.Join(t.TempDir(), "data")
		require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
		server, writer := open(t, dir, store.Origin), open(t, dir, store.Origin)
		release, err := server.Claim(t.Context())
		require.NoError(t, err)
		f, done, err := server.Shard(1, 1)
		require.NoError(t, err)
		early = stopped(t, writer, n, func(w *store.Writer) error { return w.Retire("a test", 1) })

		recoverCrash(t, writer)
		require.NoError(t, server.Sweep(0))
		text, err := content(server, 1)
		require.NoError(t, err)
		assert.Equal(t, textOf(1), text)

		require.NoError(t, f.Close())
		done()
		require.NoError(t, server.Sweep(0))
		require.NoError(t, writer.DiscardDrafts(func(shard.Version) bool { return false }))
		assert.Equal(t, clean(offered(t, writer)...), tree(t, dir))
		require.NoError(t, release())
	}
}

func TestKilledPublisherLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	var used shard.Version
	for round := range 8 {
		// Each round it dies a little later after a publication.
		used = max(used, killed(t, self, time.Duration(round)*500*time.Microsecond, victim+"="+dir))

		st := open(t, dir, store.Origin)
		requireWhole(t, st, offered(t, st)...)
		change(t, st, func(w *store.Writer) {
			v, err := w.Next()
			require.NoError(t, err)
			require.Greater(t, v, used)
			require.NoError(t, st.DiscardDrafts(func(shard.Version) bool { return false }))
		})
		held := offered(t, st)
		require.NotEmpty(t, held)
		assert.GreaterOrEqual(t, held[len(held)-1], used)
		assert.LessOrEqual(t, len(held), 3)
		requireWhole(t, st, held...)
		left := slices.DeleteFunc(tree(t, dir), func(name string) bool { return filepath.Ext(name) == ".tmp" })
		require.Equal(t, clean(held...), left)
		used = max(used, publish(t, st, 3))
		require.Equal(t, clean(offered(t, st)...), tree(t, dir))
	}
}

func TestKilledSignerLeavesWhatItHasSigned(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir, key, name := t.TempDir(), newKey(t), filepath.Join(t.TempDir(), "publisher.key")
	_, err = release.WriteKeys(name, key, "")
	require.NoError(t, err)
	var used shard.Version
	var before release.Release
	for round := range 8 {
		used = max(used, killed(t, self, time.Duration(round)*500*time.Microsecond,
			victim+"="+dir, victimKey+"="+name))
		st := open(t, dir, store.Origin)
		recoverCrash(t, st)
		now := released(t, st, key)
		require.Positive(t, now.Compare(before))
		before = now
		held := offered(t, st)
		var listed []shard.Version
		for _, e := range now.Entries {
			listed = append(listed, e.Version)
		}
		require.Equal(t, listed, held)
		requireWhole(t, st, held...)
		assert.GreaterOrEqual(t, held[len(held)-1], used)
	}
}

// killed starts a process that publishes by variables, kills it some time after it
// has published for the first time, and returns the last version that it
// has printed.
func killed(t *testing.T, self string, after time.Duration, variables ...string) (last shard.Version) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), variables...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		v, err := shard.ParseVersion(lines.Text())
		require.NoError(t, err)
		if last == 0 {
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
		last = v
	}
	require.Error(t, cmd.Wait(), "it was killed")
	require.NotZero(t, last)
	return last
}

// publishForever publishes into dir and prints each version. It signs by the key in a file, if
// that has a name.
func publishForever(ctx context.Context, dir, keyFile string) error {
	st, err := store.Open(dir, store.Origin)
	if err != nil {
		return err
	}
	if keyFile != "" {
		key, err := release.ReadPrivateKey(keyFile, nil)
		if err != nil {
			return err
		}
		st.SignBy(signing.Options{Key: key, Feed: feed})
	}
	for {
		v, err := broadcast(ctx, st, 3)
		if err != nil {
			return err
		}
		fmt.Println(v)
	}
}
