package server_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
)

// python is a data directory as the Python package 0.3.2 has written it.
const python = "../../cmd/testdata/python-0.3.2/data"

// copyPython copies it.
func copyPython(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(python)))
	return dir
}

// line01 is the line of v in the dialects 0.1 and 0.2.
func line01(v shard.Version, m shard.Manifest) string {
	return fmt.Sprintf("%s: %s|%d\n", v, m.Digest, len(m.Shards))
}

// line03 is the line of v in the dialect 0.3.
func line03(v shard.Version, m shard.Manifest) string {
	return fmt.Sprintf("%s: %s|%d\n", v, m.BLAKE3, len(m.Shards))
}

func TestParseDialect(t *testing.T) {
	for name, want := range map[string]server.Dialect{
		"": server.DialectOwn, "0.1": server.Dialect01, "0.2": server.Dialect02, "0.3": server.Dialect03,
	} {
		got, err := server.ParseDialect(name)
		require.NoError(t, err)
		assert.Equal(t, want, got, name)
	}
	for _, name := range []string{"0", "0.4", "0.3.2", "3", "py03", " 0.3"} {
		_, err := server.ParseDialect(name)
		require.ErrorContains(t, err, "want 0.1, 0.2 or 0.3", name)
	}
}

func TestEachDialectIsSpoken(t *testing.T) {
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	require.NotZero(t, m.BLAKE3)
	type speech struct {
		text  string
		probe int // the status of data1.bin
	}
	none, yes := http.StatusNotFound, http.StatusOK
	speeches := map[string]speech{
		"/py01": {line01(1, m), none}, "/py02": {line01(1, m), yes}, "/py03": {line03(1, m), yes},
	}
	for name, tc := range map[string]struct {
		dialect server.Dialect
		root    speech
	}{
		"ours at the root": {server.DialectOwn, speech{line(1, m.Digest), none}},
		"0.1 at the root":  {server.Dialect01, speeches["/py01"]},
		"0.2 at the root":  {server.Dialect02, speeches["/py02"]},
		"0.3 at the root":  {server.Dialect03, speeches["/py03"]},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Dialect: tc.dialect})
			speeches[""] = tc.root
			for prefix, speech := range speeches {
				want := speech.text
				for range 2 {
					got := s.get(t, prefix+"/distribution.txt")
					assert.Equal(t, want, got.body, prefix)
					assert.Equal(t, tagOf(want), got.header.Get("ETag"), prefix)
					assert.Equal(t, "no-cache", got.header.Get("Cache-Control"), prefix)
				}
				assert.Equal(t, http.StatusNotModified,
					s.get(t, prefix+"/distribution.txt", "If-None-Match", tagOf(want)).status, prefix)
				for path, want := range map[string]string{
					"/v1/shard_001.bin": "0123456789", "/v1/shard_00003.bin": "xyz", "/healthz": "ok\n",
					"/v1/SHA256SUMS":    string(shard.SHA256SUMS(m.Shards)),
					"/v1/manifest.json": s.get(t, "/v1/manifest.json").body,
				} {
					got := s.get(t, prefix+path)
					assert.Equal(t, http.StatusOK, got.status, prefix+path)
					assert.Equal(t, want, got.body, prefix+path)
				}
				assert.Equal(t, want, s.get(t, "/"+prefix+"//distribution.txt").body,
					"where the URL of the server ends with a slash")
				assert.Equal(t, speech.probe, s.get(t, prefix+"/data1.bin").status, prefix)
			}
		})
	}
}

func TestDirectoryOfPythonIsServedAsItIs(t *testing.T) {
	dir := copyPython(t)
	listed, err := os.ReadFile(filepath.Join(dir, distfile.FileName))
	require.NoError(t, err)
	st := open(t, dir)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Dialect: server.Dialect03})
	assert.Equal(t, string(listed), s.get(t, "/distribution.txt").body)
	for _, prefix := range []string{"/py01", "/py02", "/py03"} {
		assert.Equal(t, string(listed), s.get(t, prefix+"/distribution.txt").body, prefix)
	}

	files, err := filepath.Glob(filepath.Join(dir, "v*", "shard_*.bin"))
	require.NoError(t, err)
	require.Len(t, files, 5)
	for _, file := range files {
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		long := strings.TrimPrefix(filepath.ToSlash(file), filepath.ToSlash(dir))
		for _, path := range []string{long, strings.Replace(long, "shard_00", "shard_", 1)} {
			got := s.get(t, path)
			assert.Equal(t, http.StatusOK, got.status, path)
			assert.True(t, bytes.Equal(want, []byte(got.body)), path)
			assert.Empty(t, got.header.Get("ETag"), "a digest is not known")
			assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
			part := s.get(t, path, "Range", "bytes=-1")
			assert.Equal(t, http.StatusPartialContent, part.status, path)
			assert.Equal(t, got.body[len(want)-1:], part.body)
		}
	}
	for _, path := range []string{"/v1/manifest.json", "/v2/SHA256SUMS", "/v1/shard_00004.bin", "/v2/shard_003.bin"} {
		assert.Equal(t, http.StatusNotFound, s.get(t, path).status, path)
	}

	m := publish(t, st, 3, text)
	assert.Equal(t, string(listed)+line03(3, m), s.get(t, "/distribution.txt").body)
	for _, prefix := range []string{"/py01", "/py02"} {
		assert.Equal(t, string(listed)+line01(3, m), s.get(t, prefix+"/distribution.txt").body, prefix)
	}
}

// The Python package numbers shards by three digits before 0.3.
func TestDirectoryOfOlderPythonIsServedAsItIs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "v1", "shard_001.bin"), "shard")
	listed := line(1, sha256.Sum256([]byte("shard")))
	write(t, filepath.Join(dir, distfile.FileName), listed)
	s := newSite(t, open(t, dir))
	for _, path := range []string{"/distribution.txt", "/py01/distribution.txt", "/py03/distribution.txt"} {
		assert.Equal(t, listed, s.get(t, path).body, path)
	}
	for _, path := range []string{"/v1/shard_001.bin", "/py03/v1/shard_00001.bin"} {
		assert.Equal(t, "shard", s.get(t, path).body, path)
	}
}

func TestVersionsBeyondPythonAreLeftOut(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil  func(t *testing.T, v1 string, m shard.Manifest)
		only03 bool // the other dialects have it
	}{
		"no BLAKE3": {only03: true, spoil: func(t *testing.T, v1 string, m shard.Manifest) {
			require.NoError(t, os.Remove(filepath.Join(v1, shard.BLAKE3Name)))
			writeManifest(t, v1, m) // a file that is another one is looked at again
		}},
		"a bad manifest": {spoil: func(t *testing.T, v1 string, _ shard.Manifest) {
			write(t, filepath.Join(v1, "manifest.json"), "{")
		}},
		"the manifest of another file": {spoil: func(t *testing.T, v1 string, m shard.Manifest) {
			m.Digest = sha256.Sum256([]byte("another"))
			writeManifest(t, v1, m)
		}},
		"nothing but a line": {spoil: func(t *testing.T, v1 string, _ shard.Manifest) {
			require.NoError(t, os.RemoveAll(v1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir)
			one, two := publish(t, st, 1, text), publish(t, st, 2, "other")
			s := newSite(t, st)
			require.Equal(t, line03(1, one)+line03(2, two), s.get(t, "/py03/distribution.txt").body)
			tc.spoil(t, filepath.Join(dir, "v1"), one)
			for range 2 {
				got := s.get(t, "/py03/distribution.txt")
				assert.Equal(t, http.StatusOK, got.status)
				assert.Equal(t, line03(2, two), got.body)
				want := line01(2, two)
				if tc.only03 {
					want = line01(1, one) + want
				}
				assert.Equal(t, want, s.get(t, "/py01/distribution.txt").body)
				assert.Equal(t, want, s.get(t, "/py02/distribution.txt").body)
				assert.Equal(t, line(1, one.Digest)+line(2, two.Digest), s.get(t, "/distribution.txt").body)
			}
		})
	}
}

// A middle may know a version by the BLAKE3 that its upstream states.
func TestVersionThatIsListedByItsBLAKE3(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	m := publish(t, st, 1, text)
	write(t, filepath.Join(dir, distfile.FileName), line(1, m.BLAKE3))
	s := newSite(t, st)
	assert.Equal(t, line03(1, m), s.get(t, "/py03/distribution.txt").body)
	assert.Equal(t, line01(1, m), s.get(t, "/py02/distribution.txt").body)
	assert.Equal(t, line01(1, m), s.get(t, "/py01/distribution.txt").body)
}

func writeManifest(t *testing.T, dir string, m shard.Manifest) {
	t.Helper()
	text, err := m.Encode()
	require.NoError(t, err)
	write(t, filepath.Join(dir, "manifest.json"), string(text))
}

func TestManifestIsReadAgainOnlyWhenItHasChanged(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	m := publish(t, st, 1, text)
	s := newSite(t, st)
	require.Equal(t, line03(1, m), s.get(t, "/py03/distribution.txt").body)
	name := filepath.Join(dir, "v1", "manifest.json")
	before, err := os.Stat(name)
	require.NoError(t, err)
	write(t, name, strings.Repeat("x", int(before.Size())))
	require.NoError(t, os.Chtimes(name, before.ModTime(), before.ModTime()))
	assert.Equal(t, line03(1, m), s.get(t, "/py03/distribution.txt").body, "it looks the same")

	m.BLAKE3[0]++
	write(t, filepath.Join(dir, "v1", shard.BLAKE3Name), string(shard.BLAKE3Text(m.BLAKE3)))
	writeManifest(t, filepath.Join(dir, "v1"), m)
	assert.Equal(t, line03(1, m), s.get(t, "/py03/distribution.txt").body)
}

// arrival is a version with manifest m of which no shard has come.
func arrival(m shard.Manifest) distfile.Entry {
	return distfile.Entry{Version: 1, Digest: m.Digest}
}

func noFile(int) (relay.File, error) { return nil, os.ErrNotExist }

func TestAnArrivingVersionIsListedWithItsManifest(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	m := publish(t, open(t, t.TempDir()), 1, text)
	board := relay.NewBoard()
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, board)})
	said := func() string { return s.get(t, "/py03/distribution.txt").body }
	saidOld := func() string { return s.get(t, "/py01/distribution.txt").body }

	board.List(arrival(m))
	assert.Equal(t, line(1, m.Digest), s.get(t, "/distribution.txt").body)
	assert.Empty(t, saidOld(), "its number of shards is not known")
	unknown := m
	unknown.BLAKE3 = shard.Digest{}
	v := board.Begin(arrival(m), unknown, 1, noFile)
	board.List(arrival(m))
	assert.Equal(t, line(1, m.Digest), s.get(t, "/distribution.txt").body)
	assert.Empty(t, said())
	assert.Equal(t, line01(1, m), saidOld())
	v.End()
	assert.Empty(t, said(), "no fetch brings it, and it was never known")

	v = board.Begin(arrival(m), m, 1, noFile)
	assert.Equal(t, line03(1, m), said())
	v.End()
	assert.Equal(t, line03(1, m), said(), "it may come back")

	other := distfile.Entry{Version: 1, Digest: sha256.Sum256([]byte("another"))}
	board.List(other)
	assert.Empty(t, said(), "the known manifest is of another file")
	board.List(arrival(m))
	board.Unlist(1)
	assert.Empty(t, said())
	assert.Empty(t, saidOld())
}

// A server that was started again lists a version that had been arriving, before its fetch begins.
func TestAVersionThatWasArrivingIsListedByItsDraft(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	m := publish(t, open(t, t.TempDir()), 1, text)
	board := relay.NewBoard()
	board.List(arrival(m))
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, board)})
	said := func() string { return s.get(t, "/py03/distribution.txt").body }
	assert.Empty(t, said(), "there is no draft")
	d, err := st.Draft(1)
	require.NoError(t, err)
	assert.Empty(t, said(), "there is no manifest")
	write(t, filepath.Join(dir, ".shardcast", "drafts", "v1", "manifest.json"), "{")
	got := s.get(t, "/py03/distribution.txt")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Empty(t, got.body, "the manifest is bad")
	require.NoError(t, d.Write(shard.BLAKE3Name, shard.BLAKE3Text(m.BLAKE3)))
	require.NoError(t, d.SetManifest(m))
	assert.Equal(t, line03(1, m), said())
}

// A version that comes back with another file, which is not known by its BLAKE3, is not
// listed as the file that it replaces, nor by a digest of the wrong kind.
func TestReplacedVersionIsNotListedOld(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	board := relay.NewBoard()
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, board)})
	board.List(distfile.Entry{Version: 1, Digest: sha256.Sum256([]byte("another"))})
	assert.Empty(t, s.get(t, "/py03/distribution.txt").body)
	_, err := st.Draft(1)
	require.NoError(t, err)
	assert.Empty(t, s.get(t, "/py03/distribution.txt").body)
}

func TestRequestIsHeldInEachDialect(t *testing.T) {
	t.Parallel()
	st, board := open(t, t.TempDir()), relay.NewBoard()
	h := servePushing(t, server.Options{Catalog: catalog.New(st, board)})
	one := publish(t, st, 1, text)
	texts := [2]string{line(1, one.Digest), line03(1, one)}
	other := *h.running
	other.url += "/py03"
	speaking := []pushing{h, {&other, h.held}}
	var waiters [2]waiter
	for d, from := range speaking {
		waiters[d] = from.hold(t, tagOf(texts[d]), "wait=60")
	}
	two := publish(t, st, 2, "other")
	texts[0] += line(2, two.Digest)
	texts[1] += line03(2, two)
	for d, w := range waiters {
		got := w.get(t)
		assert.Equal(t, texts[d], got.body)
		assert.Equal(t, tagOf(texts[d]), got.header.Get("ETag"))
		assert.Equal(t, "wait=60", got.header.Get("Preference-Applied"))
	}

	// A change of one dialect wakes only requests for that one.
	three := publish(t, open(t, t.TempDir()), 3, "third")
	unknown := three
	unknown.BLAKE3 = shard.Digest{}
	e := distfile.Entry{Version: 3, Digest: three.Digest}
	board.Begin(e, unknown, 1, noFile)
	for d, from := range speaking {
		waiters[d] = from.hold(t, tagOf(texts[d]), "wait=60")
	}
	board.List(e)
	assert.Equal(t, texts[0]+line(3, three.Digest), waiters[0].get(t).body)
	board.Begin(e, three, 1, noFile)
	publish(t, st, 3, "third")
	board.Unlist(3)
	assert.Equal(t, texts[1]+line03(3, three), waiters[1].get(t).body)
}
