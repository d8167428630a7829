package middle_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/middle"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestMiddlesFollowOneAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, content(1, 5*shardSize+1))
	first := run(t, t.TempDir(), s.URL)
	second := run(t, t.TempDir(), first.url)
	second.log.await(t, "msg=fetched", "version=v1")
	second.assertServes(t, "v1", content(1, 5*shardSize+1))
	s.broadcast(t, nil)
	second.log.await(t, "msg=fetched", "version=v2")
	second.assertServes(t, "v2", nil)
	s.retire(t, 1)
	second.log.await(t, "version retired", "version=v1")
	assert.Equal(t, []string{"v2"}, second.versions(t))
	second.stop()
}

func TestMiddleKeepsTheNewest(t *testing.T) {
	t.Parallel()
	var files [][]byte
	for i := range 5 {
		files = append(files, content(byte(i), 10))
	}
	s := newSite(t, files...)
	n := run(t, t.TempDir(), s.URL)
	for _, v := range []string{"v5", "v4", "v3"} {
		n.log.await(t, "msg=fetched", "version="+v)
	}
	assert.Equal(t, []string{"v3", "v4", "v5"}, n.versions(t))
	s.broadcast(t, content(6, 10))
	n.log.await(t, "msg=fetched", "version=v6")
	s.awaitRounds(t)
	assert.Equal(t, []string{"v4", "v5", "v6"}, n.versions(t))
	assert.Empty(t, s.asked("/v2/"))
}

func TestMiddlePublishesOnlyWholeVersions(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	s := newSite(t, content(1, 3*shardSize))
	s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/v1/shard_003.bin" {
			close(asked)
			<-answer
		}
		next.ServeHTTP(w, r)
	})
	dir := t.TempDir()
	n := run(t, dir, s.URL)
	<-asked
	assert.ElementsMatch(t, []string{".shardcast"}, names(t, dir))
	close(answer)
	n.log.await(t, "msg=fetched", "version=v1")
	n.assertServes(t, "v1", content(1, 3*shardSize))
}

func TestMiddleKeepsItsVersions(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]spoiler{
		"while the upstream is broken": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusBadGateway)
		},
		"while the upstream has nothing": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.NotFound(w, r)
		},
		"while the upstream lists nothing": func(http.ResponseWriter, *http.Request, http.Handler) {},
		"while the upstream lists rubbish": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			fmt.Fprint(w, "<html>log in</html>")
		},
		"while the upstream redirects": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "http://host.invalid/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, shardSize))
			n := run(t, t.TempDir(), s.URL)
			n.log.await(t, "msg=fetched", "version=v1")
			s.spoilWith(spoil)
			s.awaitRounds(t)
			n.assertServes(t, "v1", content(1, shardSize))
		})
	}
}

func TestMiddleKeepsItsVersionsWhileTheUpstreamIsDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t, content(1, shardSize))
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	s.Close()
	n.log.await(t, "upstream is down")
	n.assertServes(t, "v1", content(1, shardSize))
	n.stop()
	n = run(t, dir, s.URL)
	n.log.await(t, "upstream is down")
	n.assertServes(t, "v1", content(1, shardSize))
}

func TestMiddleFollowsAnUpstreamThatComesUpLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, content(1, shardSize)).spoilWith(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusBadGateway)
	})
	n := run(t, t.TempDir(), s.URL)
	n.log.await(t, "upstream is down")
	s.spoilWith(nil)
	n.log.await(t, "msg=fetched", "version=v1")
}

func TestMiddleReplacesAVersionThatComesBackWithOtherBytes(t *testing.T) {
	t.Parallel()
	s, restarted := newSite(t, content(1, 2*shardSize)), newSite(t, content(2, 3*shardSize))
	dir := t.TempDir()
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	s.spoilWith(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		restarted.Config.Handler.ServeHTTP(w, r)
	})
	n.log.await(t, "version numbers have gone back", "last=v1", "newest=v1", "--accept-restart")
	status, reason := n.get(t, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, string(reason), "--accept-restart")
	n.assertServes(t, "v1", content(1, 2*shardSize))
	n.stop()
	n = runBy(t, middle.Options{AcceptRestart: true}, fetch.Options{}, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	n.assertServes(t, "v1", content(2, 3*shardSize))
	status, manifest := n.get(t, "/v1/manifest.json")
	require.Equal(t, http.StatusOK, status)
	assert.Contains(t, string(manifest), `"size": 3000`)
}

func TestMiddleGivesUpAVersionThatIsRetiredMeanwhile(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s := newSite(t, content(1, shardSize), content(2, shardSize)).spoilPath("/v2/shard_001.bin",
		func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		})
	dir := t.TempDir()
	n := run(t, dir, s.URL)
	<-asked
	s.retire(t, 2)
	n.log.await(t, "version not fetched", "version=v2", "do not list it any more")
	n.log.await(t, "msg=fetched", "version=v1")
	s.awaitRounds(t)
	assert.Equal(t, []string{"v1"}, n.versions(t))
	assert.Empty(t, names(t, filepath.Join(dir, ".shardcast", "drafts")), "its draft")
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestMiddleGoesOnWithOlderVersionsWhenTheNewestFails(t *testing.T) {
	t.Parallel()
	digest := shard.Digest(content(1, 32))
	huge := shard.Manifest{Size: 1 << 62, ShardSize: 1 << 50, Digest: digest}
	huge.Shards = slices.Repeat([]shard.Digest{digest}, 1<<12)
	text, err := huge.Encode()
	require.NoError(t, err)
	for name, answers := range map[string]map[string]string{
		"too large for the disk":           {"/v2/manifest.json": string(text)},
		"with neither manifest nor shards": {},
		"with a wrong manifest":            {"/v2/manifest.json": "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, shardSize))
			s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if answer, ok := answers[r.URL.Path]; ok {
					fmt.Fprint(w, answer)
					return
				}
				if r.URL.Path != "/distribution.txt" {
					next.ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				fmt.Fprintf(w, "%sv2: %s\n", rec.Body, huge.Digest)
			})
			n := run(t, t.TempDir(), s.URL)
			n.log.await(t, "version not fetched", "version=v2")
			n.log.await(t, "msg=fetched", "version=v1")
			assert.Equal(t, []string{"v1"}, n.versions(t))
			assert.NotContains(t, s.asked("/v2/shard"), "/v2/shard_002.bin")
		})
	}
}

func TestMiddleFetchesNothingTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t, content(1, 3*shardSize), nil)
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	n.stop()
	assert.Len(t, s.asked("shard_"), 3)

	n = run(t, dir, s.URL)
	n.log.await(t, "held version is right", "version=v1")
	n.log.await(t, "held version is right", "version=v2")
	s.awaitRounds(t)
	n.assertServes(t, "v1", content(1, 3*shardSize))
	n.assertServes(t, "v2", nil)
	assert.Len(t, s.asked("shard_"), 3)
}

func TestMiddleUsesTheDraftOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	dir := t.TempDir()
	data := content(1, 20*shardSize)
	s := newSite(t, data).spoilPath("/v1/shard_020.bin", func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	n := run(t, dir, s.URL)
	// Ten shards arrive at once, so ten are there when the last begins.
	<-asked
	n.log.await(t, `msg="shard fetched"`, "shard=2 ")
	n.stop()
	before := len(s.asked("shard_"))
	s.spoilWith(nil)
	first := filepath.Join(dir, ".shardcast", "drafts", "v1", shard.FileName(1))
	require.NoError(t, os.WriteFile(first, content(7, shardSize), 0o600))

	n = run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	n.assertServes(t, "v1", data)
	again := s.asked("shard_")[before:]
	assert.Less(t, len(again), 12)
	assert.Contains(t, again, "/v1/shard_001.bin", "its bytes on the disk are wrong")
	assert.Contains(t, again, "/v1/shard_020.bin")
	assert.NotContains(t, again, "/v1/shard_002.bin")
}

func TestMiddleFetchesDamagedShardsAgain(t *testing.T) {
	t.Parallel()
	all := []string{"/v1/shard_001.bin", "/v1/shard_002.bin", "/v1/shard_003.bin"}
	truncate := func(name string, size int64) func(dir string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, name), size) }
	}
	remove := func(name string) func(dir string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	for name, tc := range map[string]struct {
		damage func(dir string) error
		again  []string // shards; nil if not even the manifest
	}{
		"flipped byte": {func(dir string) error {
			data := content(1, 3*shardSize)[shardSize : 2*shardSize]
			data[17] ^= 1
			return os.WriteFile(filepath.Join(dir, "shard_002.bin"), data, 0o600)
		}, all[1:2]},
		"cut short":    {truncate("shard_003.bin", 10), all[2:]},
		"missing":      {remove("shard_001.bin"), all[:1]},
		"no manifest":  {remove("manifest.json"), []string{}},
		"bad manifest": {truncate("manifest.json", 0), []string{}},
		"no directory": {os.RemoveAll, all},
		"no damage":    {func(string) error { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newSite(t, content(1, 3*shardSize))
			n := run(t, dir, s.URL)
			n.log.await(t, "msg=fetched", "version=v1")
			n.stop()
			require.NoError(t, tc.damage(filepath.Join(dir, "v1")))
			before := len(s.asked("shard_"))

			n = run(t, dir, s.URL)
			if tc.again == nil {
				n.log.await(t, "held version is right", "version=v1")
			} else {
				n.log.await(t, "held version is fetched again", "version=v1")
				n.log.await(t, "msg=fetched", "version=v1")
			}
			n.assertServes(t, "v1", content(1, 3*shardSize))
			assert.ElementsMatch(t, tc.again, s.asked("shard_")[before:])
		})
	}
}

// Other nodes that fetched a version from a middle would retire it if the middle stopped
// listing it while it fetches a damaged shard again.
func TestADamagedVersionStaysListedWhileItIsFetchedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t, content(1, 3*shardSize))
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	n.stop()
	require.NoError(t, os.Truncate(filepath.Join(dir, "v1", "shard_003.bin"), 10))
	free := make(chan struct{})
	s.spoilPath("/v1/manifest.json", func(w http.ResponseWriter, _ *http.Request) {
		<-free
		http.Error(w, "later", http.StatusBadGateway)
	})
	t.Cleanup(sync.OnceFunc(func() { close(free) }))

	n = run(t, dir, s.URL)
	await(t, "the manifest to be asked for", func() (bool, <-chan struct{}) {
		asked := len(s.asked("manifest.json"))
		s.mu.Lock()
		defer s.mu.Unlock()
		return asked > 1, s.more
	})
	assert.Equal(t, []string{"v1"}, n.versions(t))
	status, _ := n.get(t, "/v1/shard_001.bin")
	assert.Equal(t, http.StatusServiceUnavailable, status, "it arrives")
}

func TestMiddleMakesNoPathsFromNames(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "data")
	digest := strings.Repeat("a", 64)
	hostile := newSite(t).spoilWith(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if r.URL.Path != "/distribution.txt" {
			fmt.Fprint(w, "evil")
			return
		}
		for _, name := range []string{
			"../evil", "v1/../../evil", "/tmp/evil", "..", ".shardcast", "v0", "v-1", "v1e3", "V1", "v1\x00",
			"distribution.txt",
		} {
			fmt.Fprintf(w, "%s: %s\n", name, digest)
		}
	})
	n := run(t, dir, hostile.URL, newSite(t, content(1, 10)).URL)
	n.log.await(t, "msg=fetched", "version=v1")
	hostile.awaitRounds(t)
	assert.Equal(t, []string{"v1"}, n.versions(t))
	assert.Equal(t, []string{"data"}, names(t, parent))
	assert.ElementsMatch(t, []string{".shardcast", "distribution.txt", "v1"}, names(t, dir))
	assert.Empty(t, hostile.asked("evil"))
}

func TestMiddleLeavesForeignFilesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreign := []string{"venv", "v", "v1-notes", "v7", "videos", "v01", "V2"}
	for _, name := range foreign {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "keep"), []byte("mine"), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "v8"), []byte("mine"), 0o600))
	s := newSite(t, content(1, 10), content(2, 10))
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	s.retire(t, 1)
	n.log.await(t, "version retired", "version=v1")
	n.stop()
	run(t, dir, s.URL).log.await(t, "held version is right", "version=v2")
	for _, name := range foreign {
		assert.FileExists(t, filepath.Join(dir, name, "keep"))
	}
	assert.FileExists(t, filepath.Join(dir, "v8"))
	assert.NoDirExists(t, filepath.Join(dir, "v1"))
}

func TestMiddleLeavesADirectoryThatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "v1", "keep"), []byte("mine"), 0o600))
	s := newSite(t, content(1, 10), content(2, 10))
	n := run(t, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v2")
	n.log.await(t, "version not fetched", "version=v1")
	s.awaitRounds(t)
	n.stop()
	require.FileExists(t, filepath.Join(dir, "v1", "keep"))
	run(t, dir, s.URL).log.await(t, "version not fetched", "version=v1")
	assert.FileExists(t, filepath.Join(dir, "v1", "keep"))
}

func TestMiddleNeedsOneUpstream(t *testing.T) {
	t.Parallel()
	dead := newSite(t)
	dead.Close()
	data := content(1, 5*shardSize)
	corrupt := newSite(t, data).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "shard_") {
			fmt.Fprint(w, strings.Repeat("a", shardSize))
		} else {
			next.ServeHTTP(w, r)
		}
	})
	for name, other := range map[string]*site{"the other is dead": dead, "the other has wrong bytes": corrupt} {
		t.Run(name, func(t *testing.T) {
			good := newSite(t, data)
			n := run(t, t.TempDir(), other.URL, good.URL)
			n.log.await(t, "msg=fetched", "version=v1")
			n.assertServes(t, "v1", data)
			n.stop()
			warnings, _ := n.log.with("level=WARN", good.URL)
			assert.Empty(t, warnings)
		})
	}
}

func TestMiddleRetiresNoVersionThatADownUpstreamListedLast(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, content(1, 10)), newSite(t, content(1, 10), content(2, 10))
	n := run(t, t.TempDir(), b.URL, a.URL)
	n.log.await(t, "msg=fetched", "version=v2")
	n.log.await(t, "msg=fetched", "version=v1")
	b.Close()
	n.log.await(t, "upstream is down", b.URL)
	a.awaitRounds(t)
	assert.Equal(t, []string{"v1", "v2"}, n.versions(t))
}

func TestMiddleHasItsDirectoryToItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t, content(1, 10))
	run(t, dir, s.URL).log.await(t, "msg=fetched", "version=v1")
	logger := slog.New(slog.DiscardHandler)
	pool := newPool(t, fetch.Options{Logger: logger}, s.URL)
	defer pool.Close()
	for _, role := range []store.Role{store.Middle, store.Origin} {
		st, err := store.Open(dir, role)
		require.NoError(t, err)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		m := middle.New(st, pool, middle.Options{Interval: interval, Keep: 1, Logger: logger})
		err = m.Serve(t.Context(), ln, server.Options{})
		require.ErrorIs(t, err, store.ErrInUse)
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, st.Close())
	}
}

func TestMiddleEndsWithoutAnErrorWhenItsContextHasEnded(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.TempDir(), store.Middle)
	require.NoError(t, err)
	defer func() { assert.NoError(t, st.Close()) }()
	pool := newPool(t, fetch.Options{Logger: logger}, "http://host.invalid")
	defer pool.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := middle.New(st, pool, middle.Options{Interval: interval, Keep: 1, Logger: logger})
	assert.NoError(t, m.Serve(ctx, ln, server.Options{}))
}

func TestMiddleEndsWhileAnUpstreamHangs(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	hang := func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}
	for _, path := range []string{"/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin"} {
		t.Run(path, func(t *testing.T) {
			n := run(t, t.TempDir(), newSite(t, content(1, 10)).spoilPath(path, hang).URL)
			<-asked
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				n.stop()
			}()
			select {
			case <-ended:
			case <-time.After(patience):
				assert.Fail(t, "it goes on")
			}
		})
	}
}
