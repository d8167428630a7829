package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// disk is a data directory whose writer takes one step after the other, and may
// stop after any.
type disk string

// state says what is going to be moved.
func (d disk) state(t tb, last shard.Version, moving ...shard.Version) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"last": last, "moving": moving})
	require.NoError(t, err)
	write(t, string(d), ".shardcast/state.json", string(text))
}

// move moves the directory of v between the data directory itself, "drafts" and
// "retired".
func (d disk) move(t tb, v shard.Version, from, to string) {
	t.Helper()
	place := func(where string) string {
		if where == "" {
			return filepath.Join(string(d), v.String())
		}
		return filepath.Join(string(d), ".shardcast", where, v.String())
	}
	require.NoError(t, os.RemoveAll(place(to)))
	require.NoError(t, os.Rename(place(from), place(to)))
}

// offer lists versions.
func (d disk) offer(t tb, versions ...shard.Version) {
	t.Helper()
	write(t, string(d), distfile.FileName, distribution(versions...))
}

// Two versions are held. The process dies while it publishes v3 and retires v1,
// or while it takes v2 away.
func TestCrashIsUndoneByTheNextWriter(t *testing.T) {
	three := []string{
		".shardcast/drafts/v3/SHA256SUMS", ".shardcast/drafts/v3/manifest.json", ".shardcast/drafts/v3/shard_001.bin",
		".shardcast/drafts/v3/shard_002.bin", ".shardcast/drafts/v3/shard_003.bin",
	}
	for name, tc := range map[string]struct {
		steps   func(t *testing.T, d disk)
		offered []shard.Version
		extra   []string // beside what is on offer
		next    shard.Version
	}{
		"draft not published": {
			steps:   func(*testing.T, disk) {},
			offered: []shard.Version{1, 2}, extra: three, next: 3,
		},
		"publish: state written": {
			steps:   func(t *testing.T, d disk) { d.state(t, 3, 1, 3) },
			offered: []shard.Version{1, 2}, extra: three, next: 4,
		},
		"publish: directory in place, not listed": {
			steps: func(t *testing.T, d disk) {
				d.state(t, 3, 1, 3)
				d.move(t, 3, "drafts", "")
			},
			offered: []shard.Version{1, 2}, next: 4,
		},
		"publish: listed, old directory in place": {
			steps: func(t *testing.T, d disk) {
				d.state(t, 3, 1, 3)
				d.move(t, 3, "drafts", "")
				d.offer(t, 2, 3)
			},
			offered: []shard.Version{2, 3}, next: 4,
		},
		"publish: listed, one of two old directories in place": {
			steps: func(t *testing.T, d disk) {
				d.state(t, 3, 1, 2, 3)
				d.move(t, 3, "drafts", "")
				d.offer(t, 3)
				d.move(t, 1, "", "retired")
			},
			offered: []shard.Version{3}, next: 4,
		},
		"publish: old directory retired, state not cleared": {
			steps: func(t *testing.T, d disk) {
				d.state(t, 3, 1, 3)
				d.move(t, 3, "drafts", "")
				d.offer(t, 2, 3)
				d.move(t, 1, "", "retired")
			},
			offered: []shard.Version{2, 3}, next: 4,
		},
		"publish: done, retired version left": {
			steps: func(t *testing.T, d disk) {
				d.move(t, 3, "drafts", "")
				d.offer(t, 2, 3)
				d.move(t, 1, "", "retired")
				d.state(t, 3)
			},
			offered: []shard.Version{2, 3}, next: 4,
		},
		"retire: an older one of the same number half removed": {
			steps: func(t *testing.T, d disk) {
				write(t, string(d), ".shardcast/retired/v2/shard_003.bin", "of an older one")
				d.state(t, 2, 2)
				d.offer(t, 1)
			},
			offered: []shard.Version{1}, extra: three, next: 3,
		},
		"withdraw: state written": {
			steps:   func(t *testing.T, d disk) { d.state(t, 2, 2) },
			offered: []shard.Version{1, 2}, extra: three, next: 3,
		},
		"withdraw: not listed, directory in place": {
			steps: func(t *testing.T, d disk) {
				d.state(t, 2, 2)
				d.offer(t, 1)
			},
			offered: []shard.Version{1}, extra: three, next: 3,
		},
		"withdraw: moved, state not cleared": {
			steps: func(t *testing.T, d disk) {
				d.state(t, 2, 2)
				d.offer(t, 1)
				d.move(t, 2, "", "drafts")
			},
			offered: []shard.Version{1}, next: 3,
			extra: append([]string{
				".shardcast/drafts/v2/SHA256SUMS", ".shardcast/drafts/v2/manifest.json", ".shardcast/drafts/v2/shard_001.bin",
				".shardcast/drafts/v2/shard_002.bin", ".shardcast/drafts/v2/shard_003.bin",
			}, three...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			publish(t, st, 5)
			publish(t, st, 5)
			d, m := draft(t, st, 3, textOf(3))
			require.NoError(t, d.SetManifest(m))
			write(t, dir, ".shardcast/drafts/v3/SHA256SUMS", string(store.Sums(m.Shards)))
			tc.steps(t, disk(dir))
			for _, tmp := range []string{"state.json.tmp", "distribution.txt.tmp"} {
				write(t, dir, ".shardcast/"+tmp, "half written")
			}
			require.NoError(t, st.Close())

			st = open(t, dir, store.Origin)
			requireWhole(t, st, tc.offered...)
			for range 2 {
				assert.Equal(t, tc.next, next(t, st))
				requireWhole(t, st, tc.offered...)
			}
			assert.Equal(t, tc.next, publish(t, st, 5))
			offered := slices.Concat(tc.offered, []shard.Version{tc.next})
			requireWhole(t, st, offered...)
			if tc.next == 3 {
				tc.extra = slices.DeleteFunc(slices.Clone(tc.extra), func(name string) bool { return slices.Contains(three, name) })
			}
			for name := range slices.Values([]string{".shardcast/state.json.tmp", ".shardcast/distribution.txt.tmp"}) {
				assert.NoFileExists(t, filepath.Join(dir, name))
			}
			assert.Equal(t, withExtra(clean(offered...), tc.extra), tree(t, dir))

			require.NoError(t, st.DiscardDrafts(func(shard.Version) bool { return false }))
			assert.Equal(t, clean(offered...), tree(t, dir))
		})
	}
}

// withExtra adds extra to found; where drafts are among it, their directory is
// not empty.
func withExtra(found, extra []string) []string {
	if len(extra) > 0 {
		found = slices.DeleteFunc(found, func(name string) bool { return name == ".shardcast/drafts" })
	}
	found = slices.Concat(found, extra)
	slices.Sort(found)
	return found
}

func TestRecoveryLetsReadersFinish(t *testing.T) {
	for name, steps := range map[string]func(t *testing.T, d disk){
		"old directory in place": func(*testing.T, disk) {},
		"old directory retired":  func(t *testing.T, d disk) { d.move(t, 1, "", "retired") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			server := open(t, dir, store.Origin)
			claim(t, server)
			publish(t, server, 5)
			publish(t, server, 5)
			f, done, err := server.Shard(1, 1)
			require.NoError(t, err)
			defer f.Close()
			disk(dir).state(t, 2, 1)
			disk(dir).offer(t, 2)
			steps(t, disk(dir))

			recoverCrash(t, open(t, dir, store.Origin))
			requireWhole(t, server, 2)
			require.NoError(t, server.Sweep(0))
			text, err := content(server, 1)
			require.NoError(t, err)
			assert.Equal(t, textOf(1), text)

			done()
			require.NoError(t, server.Sweep(0))
			assert.Equal(t, clean(2), tree(t, dir))
		})
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
		used = max(used, killed(t, self, dir, time.Duration(round)*500*time.Microsecond))

		st := open(t, dir, store.Origin)
		requireWhole(t, st, offered(t, st)...)
		change(t, st, func(w *store.Writer) {
			v, err := w.Next()
			require.NoError(t, err)
			require.Greater(t, v, used)
			require.NoError(t, w.DiscardDrafts(func(shard.Version) bool { return false }))
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

// killed starts a process that publishes into dir, kills it some time after it
// has published for the first time, and returns the last version that it has
// told of.
func killed(t *testing.T, self, dir string, after time.Duration) (last shard.Version) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), victim+"="+dir)
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

// publishForever publishes into dir and tells of each version.
func publishForever(ctx context.Context, dir string) error {
	st, err := store.Open(dir, store.Origin)
	if err != nil {
		return err
	}
	for {
		v, err := broadcast(ctx, st, 3)
		if err != nil {
			return err
		}
		fmt.Println(v)
	}
}

// What a middle has verified is not fetched again because of a crash.
func TestRecoveryOfAMiddleMakesADraftOfWhatIsNotListed(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	publishAs(t, st, 1, 5, textOf(1))
	publishAs(t, st, 2, 5, textOf(2))
	disk(dir).state(t, 2, 2)
	disk(dir).offer(t, 1)

	recoverCrash(t, open(t, dir, store.Middle))
	requireWhole(t, st, 1)
	d, err := st.Draft(2)
	require.NoError(t, err)
	_, err = d.Manifest()
	require.NoError(t, err)
	f, err := d.Open(1)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
