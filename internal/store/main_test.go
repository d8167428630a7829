package store_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// victim names the data directory of a process that publishes until it is
// killed, see [TestKilledPublisherLeavesNothingHalf], and victimKey the file of its key. With
// victimDeltas it makes deltas.
const (
	victim       = "SHARDCAST_TEST_VICTIM"
	victimKey    = "SHARDCAST_TEST_VICTIM_KEY"
	victimDeltas = "SHARDCAST_TEST_VICTIM_DELTAS"
)

// patience is how long a test waits for an event that must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		fmt.Fprintln(os.Stderr, publishForever(context.Background(), dir, os.Getenv(victimKey)))
		os.Exit(1)
	}
	// Every step syncs several files, so that rapid's own figures would take
	// minutes on a slow disk. What the command line says wins, it is read later.
	for name, value := range map[string]string{"rapid.checks": "15", "rapid.shrinktime": "5s"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// tb is the part that *testing.T and *rapid.T have in common.
type tb interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// open returns a Store of its own, as another process has.
func open(t *testing.T, dir string, role store.Role) *store.Store {
	t.Helper()
	st, err := store.Open(dir, role)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// claim keeps the directory until the test ends.
func claim(t *testing.T, st *store.Store) {
	t.Helper()
	release, err := st.Claim(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = release() })
}

// change lets f change the directory.
func change(t tb, st *store.Store, f func(w *store.Writer)) {
	t.Helper()
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	f(w)
	require.NoError(t, w.Unlock())
}

// recoverCrash lets the next writer come and go.
func recoverCrash(t tb, st *store.Store) {
	t.Helper()
	change(t, st, func(*store.Writer) {})
}

// next returns the next version number.
func next(t tb, st *store.Store) (v shard.Version) {
	t.Helper()
	change(t, st, func(w *store.Writer) {
		var err error
		v, err = w.Next()
		require.NoError(t, err)
	})
	return v
}

// textOf returns what the tests publish as v, where they do not say otherwise:
// two shards and a bit.
func textOf(v shard.Version) string {
	return fmt.Sprintf("the file of which %s consists, to the last byte", v)
}

// cut writes text to d, in shards of 16 bytes.
func cut(ctx context.Context, d *store.Draft, text string) (shard.Manifest, error) {
	plan := shard.Plan{Size: int64(len(text)), ShardSize: 16, Create: d.Create}
	m, err := shard.Cut(ctx, strings.NewReader(text), plan)
	m.Name, m.Date = "file.bin", time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	return m, err
}

// draft returns a draft of v that is ready to be published as m.
func draft(t tb, st *store.Store, v shard.Version, text string) (d *store.Draft, m shard.Manifest) {
	t.Helper()
	d, err := st.Draft(v)
	require.NoError(t, err)
	m, err = cut(t.Context(), d, text)
	require.NoError(t, err)
	return d, m
}

// keeping has st keep the newest versions alone.
func keeping(t tb, st *store.Store, versions int) {
	t.Helper()
	require.NoError(t, st.Keep(t.Context(), versions))
}

// publish publishes the next version, as an origin does.
func publish(t tb, st *store.Store, keep int) (v shard.Version) {
	t.Helper()
	change(t, st, func(w *store.Writer) {
		var err error
		v, err = w.Next()
		require.NoError(t, err)
		d, m := draft(t, st, v, textOf(v))
		keeping(t, st, keep)
		require.NoError(t, w.Publish(d, m))
	})
	return v
}

// publishAs publishes text as v, as a middle does.
func publishAs(t tb, st *store.Store, v shard.Version, keep int, text string) {
	t.Helper()
	d, m := draft(t, st, v, text)
	keeping(t, st, keep)
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
}

// offered returns the versions on offer.
func offered(t tb, st *store.Store) []shard.Version {
	t.Helper()
	entries, err := st.Distribution()
	require.NoError(t, err)
	versions := []shard.Version{}
	for _, e := range entries {
		versions = append(versions, e.Version)
	}
	return versions
}

// content returns the bytes of v, which agree with its manifest.
func content(st *store.Store, v shard.Version) (string, error) {
	f, err := st.Manifest(v)
	if err != nil {
		return "", err
	}
	defer f.Close()
	m, err := shard.ParseManifest(f)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for number := 1; number <= len(m.Shards); number++ {
		part, err := shardText(st, v, number)
		if err != nil {
			return "", err
		}
		if err := m.Shard(number).Verify(strings.NewReader(part), make([]byte, 64)); err != nil {
			return "", err
		}
		text.WriteString(part)
	}
	if got := digest(text.String()); got != m.Digest {
		return "", fmt.Errorf("%s has the digest %s, its manifest says %s", v, got, m.Digest)
	}
	return text.String(), nil
}

func shardText(st *store.Store, v shard.Version, number int) (string, error) {
	f, done, err := st.Shard(v, number)
	if err != nil {
		return "", err
	}
	defer done()
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

// requireWhole checks that exactly the versions want are on offer, and that all
// their bytes are there and are those that the distribution promises.
func requireWhole(t tb, st *store.Store, want ...shard.Version) {
	t.Helper()
	entries, err := st.Distribution()
	require.NoError(t, err)
	var got []shard.Version
	for _, e := range entries {
		got = append(got, e.Version)
		text, err := content(st, e.Version)
		require.NoError(t, err, e.Version)
		require.Equal(t, textOf(e.Version), text)
		require.Equal(t, digest(text), e.Digest)
	}
	require.Equal(t, want, got)
}

func digest(text string) shard.Digest { return sha256.Sum256([]byte(text)) }

// distribution returns the text that offers versions.
func distribution(versions ...shard.Version) string {
	var entries []distfile.Entry
	for _, v := range versions {
		entries = append(entries, distfile.Entry{Version: v, Digest: digest(textOf(v))})
	}
	return string(distfile.Encode(entries))
}

// tree returns what is in dir: files, links and empty directories. It leaves out
// the locks.
func tree(t tb, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if inside, err := os.ReadDir(name); err != nil || len(inside) > 0 {
				return err
			}
		}
		if filepath.Ext(name) == ".lock" || filepath.Base(name) == "settings.json" {
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		found = append(found, filepath.ToSlash(rel))
		return err
	}))
	return found
}

// clean is the tree of a data directory that offers versions of three shards and
// has nothing else.
func clean(versions ...shard.Version) []string {
	found := []string{".shardcast/drafts", ".shardcast/retired", ".shardcast/state.json", "distribution.txt"}
	for _, v := range versions {
		found = append(found, v.String()+"/SHA256SUMS", v.String()+"/manifest.json")
		for number := range 3 {
			found = append(found, v.String()+"/"+shard.FileName(number+1))
		}
	}
	slices.Sort(found)
	return found
}

// write makes a file that is none of the store's doing, and its directory.
func write(t tb, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}

func read(t tb, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(text)
}
