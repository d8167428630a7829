package client_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestDownloadWritesTheFile(t *testing.T) {
	for name, size := range map[string]int{
		"empty": 0, "one byte": 1, "one shard": shardSize, "many shards": 12*shardSize + 1,
	} {
		t.Run(name, func(t *testing.T) {
			data := content(1, size)
			c := newClient(t, newSite(t, data))
			dir := t.TempDir()
			path := filepath.Join(dir, "out.bin")
			m, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
			require.NoError(t, err)
			assert.Equal(t, int64(size), m.Size)
			assert.Equal(t, digestOf(data), m.Digest)
			assertFiles(t, dir, map[string][]byte{"out.bin": data})
		})
	}
}

func TestDownloadReplacesAnOlderFileWhole(t *testing.T) {
	c := newClient(t, newSite(t, content(1, 2*shardSize)))
	dir := t.TempDir()
	path := filepath.Join(dir, "out.bin")
	require.NoError(t, os.WriteFile(path, content(9, 5*shardSize), 0o600))
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": content(1, 2*shardSize)})
}

func TestDownloadMakesMissingDirectories(t *testing.T) {
	c := newClient(t, newSite(t, content(1, 10)))
	dir := filepath.Join(t.TempDir(), "a", "b")
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out.bin")})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": content(1, 10)})
}

func TestDownloadTakesAPathInTheWorkingDirectory(t *testing.T) {
	c := newClient(t, newSite(t, content(1, 10)))
	dir := t.TempDir()
	t.Chdir(dir)
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: "out.bin"})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": content(1, 10)})
}

func TestDownloadThatFailsLeavesNothing(t *testing.T) {
	enough := errors.New("had enough")
	for name, tc := range map[string]struct {
		want error
		fail func(t *testing.T, s *site, cancel context.CancelCauseFunc)
	}{
		"wrong bytes": {fetch.ErrIntegrity, func(_ *testing.T, s *site, _ context.CancelCauseFunc) {
			s.SpoilShards(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, strings.Repeat("a", shardSize))
			})
		}},
		"too many bytes": {fetch.ErrIntegrity, func(_ *testing.T, s *site, _ context.CancelCauseFunc) {
			s.SpoilShards(func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(make([]byte, 1<<20))
			})
		}},
		"missing shards": {fs.ErrNotExist, func(_ *testing.T, s *site, _ context.CancelCauseFunc) {
			s.SpoilShards(http.NotFound)
		}},
		"retired": {fetch.ErrNoVersion, func(t *testing.T, s *site, _ context.CancelCauseFunc) {
			s.SpoilShards(func(w http.ResponseWriter, r *http.Request) {
				assert.NoError(t, retire(t.Context(), s, 1))
				http.NotFound(w, r)
			})
		}},
		"cancelled": {enough, func(_ *testing.T, s *site, cancel context.CancelCauseFunc) {
			s.SpoilShards(func(w http.ResponseWriter, r *http.Request) {
				cancel(enough)
				sitetest.Silence(w, r)
			})
		}},
		"gone down": {fetch.ErrUnreachable, func(_ *testing.T, s *site, _ context.CancelCauseFunc) {
			s.SpoilShards(func(http.ResponseWriter, *http.Request) {
				_ = s.Listener.Close()
				panic(http.ErrAbortHandler)
			})
		}},
		"gone down before": {fetch.ErrUnreachable, func(_ *testing.T, s *site, _ context.CancelCauseFunc) {
			s.Close()
		}},
		"cancelled before": {enough, func(_ *testing.T, _ *site, cancel context.CancelCauseFunc) { cancel(enough) }},
	} {
		for where, before := range map[string]map[string][]byte{
			"an old file": {"out.bin": []byte("as good as ever"), "foreign.bin": []byte("foreign")},
			"no file":     {},
		} {
			t.Run(name+", "+where, func(t *testing.T) {
				dir := t.TempDir()
				for name, data := range before {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				// With one shard the outcome does not depend on which is first.
				s := newSite(t, content(1, shardSize))
				c := newClient(t, s)
				e := find(t, c)
				tc.fail(t, s, cancel)
				_, _, err := c.Download(ctx, client.Download{Entry: e, Path: filepath.Join(dir, "out.bin")})
				require.ErrorIs(t, err, tc.want)
				assertFiles(t, dir, before)
			})
		}
	}
}

func TestDownloadThatFailsHalfwayMakesNoFile(t *testing.T) {
	s := newSite(t, content(1, 20*shardSize))
	s.SpoilShards(func(w http.ResponseWriter, r *http.Request) {
		data := content(1, 20*shardSize)
		var number int
		_, _ = fmt.Sscanf(r.URL.Path, "/v1/shard_%03d.bin", &number)
		if number == 15 {
			data = content(2, 20*shardSize)
		}
		_, _ = w.Write(data[(number-1)*shardSize : number*shardSize])
	})
	c := newClient(t, s)
	dir := t.TempDir()
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out.bin")})
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	assert.NoFileExists(t, filepath.Join(dir, "out.bin"))
}

func TestDownloadTakesWrongShardsFromAnotherServer(t *testing.T) {
	data := content(1, 10*shardSize)
	bad := newSite(t, data).SpoilShards(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(content(3, shardSize))
	})
	c := newClient(t, bad, newSite(t, data))
	dir := t.TempDir()
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out.bin")})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": data})
}

func TestDownloadRefusesAPathThatIsNoFile(t *testing.T) {
	for name, makeIt := range map[string]func(t *testing.T, dir string) string{
		"a directory": func(t *testing.T, dir string) string {
			t.Helper()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "out"), 0o700))
			return filepath.Join(dir, "out")
		},
		"the working directory": func(t *testing.T, dir string) string {
			t.Helper()
			t.Chdir(dir)
			return "."
		},
		"a directory to be": func(_ *testing.T, dir string) string {
			return filepath.Join(dir, "new") + string(filepath.Separator)
		},
		"below a file": func(t *testing.T, dir string) string {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
			return filepath.Join(dir, "file", "out")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, 10))
			c := newClient(t, s)
			dir := t.TempDir()
			path := makeIt(t, dir)
			before, err := os.ReadDir(dir)
			require.NoError(t, err)
			_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
			require.Error(t, err)
			after, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Len(t, after, len(before))
			assert.Empty(t, s.ShardsAsked())
		})
	}
}

func TestDownloadIsKeptWhenItsNameIsTakenMeanwhile(t *testing.T) {
	data := content(1, shardSize)
	s := newSite(t, data)
	dir := t.TempDir()
	path := filepath.Join(dir, "out.bin")
	s.SpoilShards(func(w http.ResponseWriter, _ *http.Request) {
		assert.NoError(t, os.Mkdir(path, 0o700))
		_, _ = w.Write(data)
	})
	var log strings.Builder
	c := nodeOf(sitetest.Pool(t, s), slog.New(slog.NewTextHandler(&log, nil)))
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
	require.Error(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": nil, part: data})
	assert.Contains(t, log.String(),
		`msg="partial download kept" version=v1 file=`+filepath.Join(dir, part)+` bytes=1000`)

	require.NoError(t, os.Remove(path))
	s.SpoilShards(nil)
	s.ShardsAsked()
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
	require.NoError(t, err)
	assert.Empty(t, s.ShardsAsked(), "nothing is fetched again")
	assertFiles(t, dir, map[string][]byte{"out.bin": data})
}

func TestDownloadsToOnePathAtOnce(t *testing.T) {
	data := content(1, 3*shardSize)
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := newSite(t, data)
	handler := s.Config.Handler
	s.SpoilShards(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-answer
		s.SpoilShards(nil)
		handler.ServeHTTP(w, r)
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "out.bin")
	first, second := newClient(t, s), newClient(t, s)
	e := find(t, second)
	find(t, first)
	done := make(chan error)
	go func() {
		_, _, err := first.Download(t.Context(), client.Download{Entry: e, Path: path})
		done <- err
	}()
	<-asked
	_, _, err := second.Download(t.Context(), client.Download{Entry: e, Path: path})
	require.ErrorContains(t, err, "another download")
	require.ErrorContains(t, err, path)
	close(answer)
	require.NoError(t, <-done)
	assertFiles(t, dir, map[string][]byte{"out.bin": data})
	_, _, err = second.Download(t.Context(), client.Download{Entry: e, Path: path})
	require.NoError(t, err, "when the first has ended")
}

func TestDownloadsToOnePathAtOnceNeverMix(t *testing.T) {
	s := newSite(t, content(1, 3*shardSize), content(2, 5*shardSize))
	c := newClient(t, s)
	var offers []distfile.Entry
	for _, v := range []shard.Version{1, 2} {
		e, err := c.Find(t.Context(), v)
		require.NoError(t, err)
		offers = append(offers, e)
	}
	dir := t.TempDir()
	done := make(chan error)
	const downloads = 16
	for i := range downloads {
		go func() {
			d := client.Download{Entry: offers[i%2], Path: filepath.Join(dir, "out.bin")}
			_, _, err := c.Download(t.Context(), d)
			done <- err
		}()
	}
	succeeded := 0
	for range downloads {
		if err := <-done; err == nil {
			succeeded++
		} else {
			require.ErrorContains(t, err, "another download")
		}
	}
	require.Positive(t, succeeded)
	got, err := os.ReadFile(filepath.Join(dir, "out.bin"))
	require.NoError(t, err)
	assert.Contains(t, []shard.Digest{offers[0].Digest, offers[1].Digest}, digestOf(got))
	assertFiles(t, dir, map[string][]byte{"out.bin": got})
}

func TestDownloadsToManyPathsAtOnce(t *testing.T) {
	data := content(1, 4*shardSize)
	s := newSite(t, data)
	dir := t.TempDir()
	done := make(chan error)
	want := make(map[string][]byte)
	for i := range 12 {
		c := newClient(t, s)
		e := find(t, c)
		name := fmt.Sprintf("out%d.bin", i)
		want[name] = data
		go func() {
			_, _, err := c.Download(t.Context(), client.Download{Entry: e, Path: filepath.Join(dir, name)})
			done <- err
		}()
	}
	for range want {
		require.NoError(t, <-done)
	}
	assertFiles(t, dir, want)
}

func TestDownloadTakesOverTheFileOfAKilledOne(t *testing.T) {
	data := content(1, 3*shardSize)
	for name, left := range map[string][]byte{
		"longer": content(9, 7*shardSize), "shorter": content(9, 10), "nothing": {}, "as long": content(9, len(data)),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, newSite(t, data))
			dir := t.TempDir()
			path := filepath.Join(dir, "out.bin")
			require.NoError(t, os.WriteFile(filepath.Join(dir, part), left, 0o600))
			_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
			require.NoError(t, err)
			assertFiles(t, dir, map[string][]byte{"out.bin": data})
		})
	}
}

func TestDownloadThatDoesNotFitAsksForNoShard(t *testing.T) {
	const size, shardSize = 1 << 62, 1 << 50
	m := shard.Manifest{
		Size: size, ShardSize: shardSize, Digest: digestOf(nil),
		Shards: slices.Repeat([]shard.Digest{digestOf(nil)}, size/shardSize),
	}
	text, err := m.Encode()
	require.NoError(t, err)
	s := sitetest.Plain(t, map[string]string{
		"distribution.txt": fmt.Sprintf("v1: %s\n", m.Digest), "v1/manifest.json": string(text), "v1/shard_001.bin": "",
	})
	c := newClient(t, s)
	dir := t.TempDir()
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out.bin")})
	require.ErrorIs(t, err, disk.ErrNoSpace)
	assert.Empty(t, s.ShardsAsked())
	assertFiles(t, dir, map[string][]byte{})
}

func TestDownloadTakesAnyServersFiles(t *testing.T) {
	data := content(1, 2*shardSize)
	m := shard.Manifest{
		Name: "plain", Size: int64(len(data)), ShardSize: shardSize, Digest: digestOf(data),
		Shards: []shard.Digest{digestOf(data[:shardSize]), digestOf(data[shardSize:])},
	}
	text, err := m.Encode()
	require.NoError(t, err)
	c := newClient(t, sitetest.Plain(t, map[string]string{
		"distribution.txt": fmt.Sprintf("v1: %s\n", m.Digest), "v1/manifest.json": string(text),
		"v1/shard_001.bin": string(data[:shardSize]), "v1/shard_002.bin": string(data[shardSize:]),
	}))
	dir := t.TempDir()
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out.bin")})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": data})
}

func TestDownloadToTheLongestNameThereIs(t *testing.T) {
	data := content(1, 2*shardSize)
	c := newClient(t, newSite(t, data))
	e, err := c.Find(t.Context(), 1)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 255))
	_, _, err = c.Download(t.Context(), client.Download{Entry: e, Path: path})
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, data, got)
}

func TestDownloadLeavesAFileBesideItAlone(t *testing.T) {
	dir := t.TempDir()
	c := newClient(t, newSite(t, content(1, 2*shardSize)))
	e, err := c.Find(t.Context(), 1)
	require.NoError(t, err)
	theirs := filepath.Join(dir, ".out.bin.part")
	require.NoError(t, os.WriteFile(theirs, []byte("precious"), 0o600))
	_, _, err = c.Download(t.Context(), client.Download{Entry: e, Path: filepath.Join(dir, "out.bin")})
	require.NoError(t, err)
	kept, err := os.ReadFile(theirs)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(kept))
}
