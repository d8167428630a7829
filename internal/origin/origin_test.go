package origin_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shardSize = 1000 // bytes

// content returns size bytes, the same for the same seed.
func content(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// file makes a file of data.
func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weights.bin")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	return st
}

func newOrigin(st *store.Store, keep int) *origin.Origin {
	return origin.New(st, shardSize, keep, slog.New(slog.DiscardHandler))
}

// published returns what st holds of version.
func published(t *testing.T, st *store.Store, version shard.Version) (shard.Manifest, []byte) {
	t.Helper()
	f, err := st.Manifest(version)
	require.NoError(t, err)
	defer f.Close()
	m, err := shard.ParseManifest(f)
	require.NoError(t, err)
	var data []byte
	for number := range m.Shards {
		s, done, err := st.Shard(version, number+1)
		require.NoError(t, err)
		part, err := io.ReadAll(s)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		done()
		assert.Equal(t, m.Shards[number], shard.Digest(sha256.Sum256(part)))
		data = append(data, part...)
	}
	return m, data
}

// assertNothing says that st offers nothing, and that nothing is left of what was
// begun.
func assertNothing(t *testing.T, st *store.Store) {
	t.Helper()
	offers, err := st.Distribution()
	require.NoError(t, err)
	assert.Empty(t, offers)
	for _, pattern := range []string{"v*", ".shardcast/drafts/*", ".shardcast/retired/*", ".shardcast/*.tmp"} {
		left, err := filepath.Glob(filepath.Join(st.Dir(), filepath.FromSlash(pattern)))
		require.NoError(t, err)
		assert.Empty(t, left)
	}
}

func TestBroadcastPublishesTheFile(t *testing.T) {
	for name, size := range map[string]int{
		"empty": 0, "one byte": 1, "one shard": shardSize, "one byte more": shardSize + 1,
		"many shards": 20*shardSize + 7,
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, t.TempDir())
			data := content(1, size)
			v, err := newOrigin(st, 3).Broadcast(t.Context(), file(t, data))
			require.NoError(t, err)
			assert.Equal(t, shard.Version(1), v)
			offers, err := st.Distribution()
			require.NoError(t, err)
			require.Len(t, offers, 1)
			m, got := published(t, st, v)
			assert.True(t, slices.Equal(data, got), "other bytes")
			assert.Equal(t, shard.Digest(sha256.Sum256(data)), m.Digest)
			assert.Equal(t, m.Digest, offers[0].Digest)
			assert.Equal(t, int64(size), m.Size)
			assert.Equal(t, int64(shardSize), m.ShardSize)
			assert.Equal(t, "weights.bin", m.Name)
			assert.WithinDuration(t, time.Now(), m.Date, time.Minute)
		})
	}
}

func TestBroadcastKeepsTheNewest(t *testing.T) {
	st := open(t, t.TempDir())
	o := newOrigin(st, 2)
	for want := shard.Version(1); want <= 4; want++ {
		v, err := o.Broadcast(t.Context(), file(t, content(byte(want), 10)))
		require.NoError(t, err)
		assert.Equal(t, want, v)
	}
	offers, err := st.Distribution()
	require.NoError(t, err)
	require.Len(t, offers, 2)
	assert.Equal(t, shard.Version(3), offers[0].Version)
	assert.Equal(t, shard.Version(4), offers[1].Version)
	_, err = st.Manifest(2)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestBroadcastRefusesPathsThatItCannotPublish(t *testing.T) {
	for name, tc := range map[string]struct {
		path func(t *testing.T) string
		want string
	}{
		"a directory": {func(t *testing.T) string { t.Helper(); return t.TempDir() }, "there is no file in it"},
		"no file":     {func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "none") }, "none"},
		"no name":     {func(*testing.T) string { return "" }, "broadcast"},
		"a device":    {func(*testing.T) string { return os.DevNull }, "neither a regular file nor a directory"},
		"a dangling link": {func(t *testing.T) string {
			t.Helper()
			link := filepath.Join(t.TempDir(), "link")
			require.NoError(t, os.Symlink("none", link))
			return link
		}, "link"},
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, t.TempDir())
			_, err := newOrigin(st, 3).Broadcast(t.Context(), tc.path(t))
			require.ErrorContains(t, err, tc.want)
			assertNothing(t, st)
		})
	}
}

func TestBroadcastNamesTheMissingFile(t *testing.T) {
	_, err := newOrigin(open(t, t.TempDir()), 3).Broadcast(t.Context(), "no/such/file")
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "no/such/file")
}

func TestBroadcastNamesASufficientShardSize(t *testing.T) {
	st := open(t, t.TempDir())
	o := origin.New(st, 1, 3, slog.New(slog.DiscardHandler))
	_, err := o.Broadcast(t.Context(), file(t, make([]byte, shard.MaxShards+1)))
	require.ErrorContains(t, err, "use a shard size of 2 or more")
	assertNothing(t, st)
}

func TestBroadcastFollowsALink(t *testing.T) {
	st := open(t, t.TempDir())
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(file(t, content(1, 10)), link))
	v, err := newOrigin(st, 3).Broadcast(t.Context(), link)
	require.NoError(t, err)
	_, got := published(t, st, v)
	assert.Equal(t, content(1, 10), got)
}

func TestBroadcastOfAFileThatGrows(t *testing.T) {
	const size = 4 << 20
	st := open(t, t.TempDir())
	path := file(t, content(1, size))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	begun, enough, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-enough:
				ended <- f.Close()
				return
			default:
			}
			if _, err := f.Write([]byte("more")); err != nil {
				ended <- errors.Join(err, f.Close())
				return
			}
			if n == 0 {
				close(begun)
			}
		}
	}()
	<-begun
	v, err := origin.New(st, 1<<20, 3, slog.New(slog.DiscardHandler)).Broadcast(t.Context(), path)
	close(enough)
	require.NoError(t, <-ended)
	if err != nil {
		require.ErrorIs(t, err, shard.ErrChanged)
		assertNothing(t, st)
		return
	}
	m, got := published(t, st, v)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, slices.Equal(after[:m.Size], got), "what is published was never there")
	assert.Equal(t, m.Digest, shard.Digest(sha256.Sum256(got)))
}

// A file that changes between its opening and its last byte is of two contents, even where
// its size stays the same.
func TestBroadcastOfAFileThatChangesMeanwhile(t *testing.T) {
	for name, change := range map[string]func(f *os.File) error{
		"written in place": func(f *os.File) error {
			_, err := f.WriteAt([]byte("other"), 0)
			return err
		},
		"longer":  func(f *os.File) error { return f.Truncate(3*shardSize + 1) },
		"shorter": func(f *os.File) error { return f.Truncate(3*shardSize - 1) },
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, t.TempDir())
			path := file(t, content(1, 3*shardSize))
			// A write within the tick of the file system's clock leaves the time as it was.
			long := time.Now().Add(-time.Hour)
			require.NoError(t, os.Chtimes(path, long, long))
			_, err := newOrigin(st, 3).BroadcastAfter(t.Context(), path, func() {
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				require.NoError(t, err)
				require.NoError(t, errors.Join(change(f), f.Close()))
			})
			require.ErrorIs(t, err, shard.ErrChanged)
			assertNothing(t, st)
			v, err := newOrigin(st, 3).Broadcast(t.Context(), path)
			require.NoError(t, err)
			assert.Equal(t, shard.Version(1), v, "the file as it is now")
		})
	}
}

func TestBroadcastThatIsCancelledLeavesNothing(t *testing.T) {
	path := file(t, nil)
	require.NoError(t, os.Truncate(path, 1<<29)) // of holes, more than can be cut before it is noticed
	st := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := origin.New(st, 1<<20, 3, slog.New(slog.DiscardHandler)).Broadcast(ctx, path)
		ended <- err
	}()
	cut := filepath.Join(st.Dir(), ".shardcast", "drafts", "v1", shard.FileName(1)+"*")
	assert.Eventually(t, func() bool {
		found, err := filepath.Glob(cut)
		return err == nil && found != nil
	}, time.Minute, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	assertNothing(t, st)
	v, err := newOrigin(st, 3).Broadcast(t.Context(), file(t, content(1, 10)))
	require.NoError(t, err)
	assert.Equal(t, shard.Version(1), v, "a number that was never listed is free")
}

func TestBroadcastWaitsForItsTurnNoLongerThanItsContext(t *testing.T) {
	st := open(t, t.TempDir())
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = newOrigin(st, 3).Broadcast(ctx, file(t, content(1, 10)))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, w.Unlock())
	assertNothing(t, st)
}

func TestBroadcastsAtOnceGetANumberEach(t *testing.T) {
	const broadcasts = 12
	dir := t.TempDir()
	// Two stores are as apart as two processes.
	origins := []*origin.Origin{newOrigin(open(t, dir), 100), newOrigin(open(t, dir), 100)}
	type outcome struct {
		version shard.Version
		seed    byte
		err     error
	}
	outcomes := make(chan outcome)
	for seed := range byte(broadcasts) {
		path := file(t, content(seed, 3*shardSize+int(seed)))
		go func() {
			v, err := origins[seed%2].Broadcast(t.Context(), path)
			outcomes <- outcome{v, seed, err}
		}()
	}
	st := open(t, dir)
	seen := make(map[shard.Version]bool)
	for range broadcasts {
		o := <-outcomes
		require.NoError(t, o.err)
		seen[o.version] = true
		_, got := published(t, st, o.version)
		want := content(o.seed, 3*shardSize+int(o.seed))
		assert.True(t, slices.Equal(want, got), "%s has the bytes of another", o.version)
	}
	assert.Len(t, seen, broadcasts)
	offers, err := st.Distribution()
	require.NoError(t, err)
	assert.Len(t, offers, broadcasts)
	assert.Equal(t, shard.Version(broadcasts), offers[broadcasts-1].Version)
}

func TestBroadcastRemovesTheRestOfAnInterruptedOne(t *testing.T) {
	st := open(t, t.TempDir())
	interrupted(t, st)
	v, err := newOrigin(st, 3).Broadcast(t.Context(), file(t, content(1, shardSize)))
	require.NoError(t, err)
	m, got := published(t, st, v)
	assert.Len(t, m.Shards, 1)
	assert.Equal(t, content(1, shardSize), got)
	left, err := os.ReadDir(filepath.Join(st.Dir(), "v1"))
	require.NoError(t, err)
	assert.Len(t, left, 3, "the manifest, the sums and one shard")
}

// interrupted leaves what a broadcast that was killed leaves.
func interrupted(t *testing.T, st *store.Store) {
	t.Helper()
	draft, err := st.Draft(1)
	require.NoError(t, err)
	for number := 1; number <= 2; number++ {
		w, err := draft.Create(number)
		require.NoError(t, err)
		_, err = w.Write(content(9, 10))
		require.NoError(t, err)
		require.NoError(t, w.Commit())
	}
}

func TestBroadcastIntoAMiddlesDirectory(t *testing.T) {
	dir := t.TempDir()
	middle, err := store.Open(dir, store.Middle)
	require.NoError(t, err)
	release, err := middle.Claim(t.Context())
	require.NoError(t, err)
	st := open(t, dir)
	_, err = newOrigin(st, 3).Broadcast(t.Context(), file(t, content(1, 10)))
	require.ErrorIs(t, err, store.ErrInUse)
	assertNothing(t, st)
	require.NoError(t, release())
	require.NoError(t, middle.Close())
}

// listen returns a listener for Serve to close.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

func TestServeServesBroadcastVersions(t *testing.T) {
	st := open(t, t.TempDir())
	interrupted(t, st)
	o := newOrigin(st, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ln := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- o.Serve(ctx, ln, server.Options{}, nil) }()
	get := func() string {
		url := fmt.Sprintf("http://%s/distribution.txt", ln.Addr())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(text)
	}
	assert.Empty(t, get())
	assertNothing(t, st)
	_, err := o.Broadcast(t.Context(), file(t, content(1, 10)))
	require.NoError(t, err)
	assert.Contains(t, get(), "v1: ")

	another := open(t, st.Dir())
	refused := listen(t)
	require.ErrorIs(t, newOrigin(another, 3).Serve(t.Context(), refused, server.Options{}, nil), store.ErrInUse)
	_, err = refused.Accept()
	require.ErrorIs(t, err, net.ErrClosed)

	cancel()
	require.NoError(t, <-ended)
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestServeBeginsWhileAnotherProcessPublishes(t *testing.T) {
	dir := t.TempDir()
	w, err := open(t, dir).Lock(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ln := listen(t)
	o := newOrigin(open(t, dir), 3)
	ended := make(chan error, 1)
	go func() { ended <- o.Serve(ctx, ln, server.Options{}, nil) }()
	resp, err := http.Get("http://" + ln.Addr().String() + "/healthz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, w.Unlock())
}

func TestServeEndsWellBeforeItHasBegun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, newOrigin(open(t, t.TempDir()), 3).Serve(ctx, listen(t), server.Options{}, nil))
}

func TestServeEndsWellWhileAnotherProcessPublishes(t *testing.T) {
	dir := t.TempDir()
	w, err := open(t, dir).Lock(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	assert.NoError(t, newOrigin(open(t, dir), 3).Serve(ctx, listen(t), server.Options{}, nil))
	require.NoError(t, w.Unlock())
}

func TestTheDataDirectoryIsNotPublished(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600))
	st := open(t, filepath.Join(dir, "data"))
	o := newOrigin(st, 3)
	_, err := o.Broadcast(t.Context(), dir)
	require.ErrorContains(t, err, "lies in it; exclude it")
	got, err := o.BroadcastAs(t.Context(), dir, origin.Options{Tree: tree.Options{Exclude: []string{"/data"}}})
	require.NoError(t, err)
	assert.EqualValues(t, 1, got.Version)
}
