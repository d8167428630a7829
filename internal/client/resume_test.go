package client_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
)

const (
	part = ".out.bin.shardcast-part"

	// resumable in shards is enough for their bytes to fill blocks of the disk.
	resumable = 30
)

// partial leaves in dir the partial file of a download of e that came to its last shard.
func partial(t *testing.T, s *site, c *node, e distfile.Entry, dir string) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("had enough")
	s.SpoilShard("shard_030.bin", func(w http.ResponseWriter, r *http.Request) {
		// By now 20 others have come: at most 10 arrive at once.
		cancel(enough)
		sitetest.Silence(w, r)
	})
	_, _, err := c.Download(ctx, client.Download{Entry: e, Path: filepath.Join(dir, "out.bin")})
	require.ErrorIs(t, err, enough)
	s.SpoilShards(nil)
	require.FileExists(t, filepath.Join(dir, part))
	require.NoFileExists(t, filepath.Join(dir, "out.bin"))
	f, err := os.Open(filepath.Join(dir, part))
	require.NoError(t, err)
	defer f.Close()
	if written, err := disk.Written(f, 0, resumable*shardSize); err != nil || len(written) == 0 {
		t.Skip("this file system does not report holes")
	}
}

// download downloads d into dir, and returns how that went and which shards were requested.
func download(
	t *testing.T, s *site, c *node, d client.Download, dir string, want []byte,
) (went fetch.Progress, asked []string) {
	t.Helper()
	s.ShardsAsked()
	d.Path = filepath.Join(dir, "out.bin")
	_, went, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"out.bin": want})
	return went, s.ShardsAsked()
}

func TestDownloadContinuesAnInterruptedOne(t *testing.T) {
	data := content(1, resumable*shardSize)
	s := newSite(t, data)
	c := newClient(t, s)
	e, dir := find(t, c), t.TempDir()
	partial(t, s, c, e, dir)
	went, _ := download(t, s, c, client.Download{Entry: e}, dir, data)
	assert.Greater(t, went.Resumed, int64(resumable*shardSize/3))
	assert.Equal(t, int64(resumable*shardSize), went.Resumed+went.Received-went.Wasted)
}

func TestDownloadAfresh(t *testing.T) {
	data := content(1, resumable*shardSize)
	s := newSite(t, data)
	c := newClient(t, s)
	e, dir := find(t, c), t.TempDir()
	partial(t, s, c, e, dir)
	went, _ := download(t, s, c, client.Download{Entry: e, Afresh: true}, dir, data)
	assert.Equal(t, int64(resumable*shardSize), went.Received-went.Wasted)
	assert.Zero(t, went.Resumed)
}

func TestDownloadVerifiesThePartialFile(t *testing.T) {
	data := content(1, resumable*shardSize)
	s := newSite(t, data)
	c := newClient(t, s)
	e, dir := find(t, c), t.TempDir()
	partial(t, s, c, e, dir)
	f, err := os.OpenFile(filepath.Join(dir, part), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(flipped(data[5*shardSize:5*shardSize+1]), 5*shardSize)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	went, _ := download(t, s, c, client.Download{Entry: e}, dir, data)
	assert.Positive(t, went.Resumed)
}

// flipped returns data with a bit of each byte flipped.
func flipped(data []byte) []byte {
	other := make([]byte, len(data))
	for i, b := range data {
		other[i] = b ^ 1
	}
	return other
}

func TestDownloadOfAnotherFileDoesNotUseThePartialFile(t *testing.T) {
	old, data := content(1, resumable*shardSize), content(2, resumable*shardSize)
	for name, sites := range map[string][2]*site{
		"another version":       {newSite(t, old), newSite(t, old, data)},
		"another file as v1":    {newSite(t, old), newSite(t, data)},
		"a shorter one, as v1":  {newSite(t, old), newSite(t, data[:resumable*shardSize-1])},
		"a longer file, as v1":  {newSite(t, old), newSite(t, append(data[:len(data):len(data)], "more"...))},
		"a file with its begin": {newSite(t, old), newSite(t, old[:20*shardSize])},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := newClient(t, sites[0]), newClient(t, sites[1])
			dir := t.TempDir()
			partial(t, sites[0], first, find(t, first), dir)
			e := find(t, second)
			path := filepath.Join(dir, "out.bin")
			m, went, err := second.Download(t.Context(), client.Download{Entry: e, Path: path})
			require.NoError(t, err)
			assert.Zero(t, went.Resumed)
			assert.Len(t, sites[1].ShardsAsked(), len(m.Shards))
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, e.Digest, digestOf(got))
		})
	}
}

// A kill between the last two steps leaves the whole file without its footer.
func TestDownloadUsesAWholeFileThatLacksItsName(t *testing.T) {
	data := content(1, resumable*shardSize)
	s := newSite(t, data)
	c := newClient(t, s)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, part), data, 0o600))
	went, asked := download(t, s, c, client.Download{Entry: find(t, c)}, dir, data)
	assert.Empty(t, asked)
	assert.Equal(t, int64(len(data)), went.Resumed)
}

func TestDownloadRemovesAbandonedPartialFiles(t *testing.T) {
	data := content(1, 10)
	dir := t.TempDir()
	old := time.Now().Add(-25 * time.Hour)
	for name, age := range map[string]time.Time{
		".old.shardcast-part": old, ".young.shardcast-part": time.Now(), ".locked.shardcast-part": old,
		"old.shardcast-part": old, ".old.part": old,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), age, age))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	lock, err := disk.Lock(t.Context(), root, ".locked.shardcast-part")
	require.NoError(t, err)
	defer lock.Close()
	s := newSite(t, data)
	c := newClient(t, s)
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out.bin")})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{
		"out.bin": data, ".young.shardcast-part": nil, ".locked.shardcast-part": nil,
		"old.shardcast-part": nil, ".old.part": nil,
	})
}

func TestDownloadKeepsAPartialFileThatMayBeContinued(t *testing.T) {
	data := content(1, resumable*shardSize)
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		kept   bool
	}{
		"server gone":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true},
		"shard missing": {http.NotFound, true},
		"wrong bytes": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(flipped(data[:shardSize]))
		}, true},
		"retired": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, data)
			c := newClient(t, s)
			e, dir := find(t, c), t.TempDir()
			if tc.answer == nil {
				tc.answer = func(w http.ResponseWriter, r *http.Request) {
					assert.NoError(t, retire(r.Context(), s, 1))
					http.NotFound(w, r)
				}
			}
			s.SpoilShard("shard_030.bin", tc.answer)
			_, _, err := c.Download(t.Context(), client.Download{Entry: e, Path: filepath.Join(dir, "out.bin")})
			require.Error(t, err)
			if tc.kept {
				assert.FileExists(t, filepath.Join(dir, part))
				s.SpoilShards(nil)
				went, _ := download(t, s, c, client.Download{Entry: e}, dir, data)
				assert.Positive(t, went.Resumed)
			} else {
				assertFiles(t, dir, nil)
			}
		})
	}
}
