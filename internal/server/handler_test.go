package server_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// text is what the tests publish: two shards and a bit.
const text = "0123456789abcdefghijxyz"

func quoted(digest shard.Digest) string { return `"` + digest.String() + `"` }

func TestEveryRouteAnswersGetAndHead(t *testing.T) {
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	manifest, err := m.Encode()
	require.NoError(t, err)
	s := newSite(t, st)
	for path, tc := range map[string]struct {
		contentType, body string
		etag              shard.Digest
	}{
		"/distribution.txt": {
			"text/plain; charset=utf-8", fmt.Sprintf("v1: %s\n", m.Digest),
			sha256.Sum256(fmt.Appendf(nil, "v1: %s\n", m.Digest)),
		},
		"/v1/manifest.json":      {"application/json", string(manifest), sha256.Sum256(manifest)},
		"/v1/shard_001.bin":      {"application/octet-stream", "0123456789", m.Shards[0]},
		"/v1/shard_00001.bin":    {"application/octet-stream", "0123456789", m.Shards[0]},
		"/v1/shard_002.bin":      {"application/octet-stream", "abcdefghij", m.Shards[1]},
		"/v1/shard_003.bin":      {"application/octet-stream", "xyz", m.Shards[2]},
		"/v1/shard_00000003.bin": {"application/octet-stream", "xyz", m.Shards[2]},
		"/v1/shard_003.bin?a=b":  {"application/octet-stream", "xyz", m.Shards[2]},
		"/v1/SHA256SUMS": {
			"text/plain; charset=utf-8", string(shard.SHA256SUMS(m.Shards)), sha256.Sum256(shard.SHA256SUMS(m.Shards)),
		},
		"/healthz": {"text/plain; charset=utf-8", "ok\n", sha256.Sum256([]byte("ok\n"))},
	} {
		t.Run(path, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := s.ask(t, method, path)
				assert.Equal(t, http.StatusOK, got.status)
				if method == http.MethodGet {
					assert.Equal(t, tc.body, got.body)
				} else {
					assert.Empty(t, got.body)
				}
				assert.Equal(t, strconv.Itoa(len(tc.body)), got.header.Get("Content-Length"))
				assert.Equal(t, tc.contentType, got.header.Get("Content-Type"))
				assert.Equal(t, quoted(tc.etag), got.header.Get("ETag"))
				assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
				assert.Equal(t, "bytes", got.header.Get("Accept-Ranges"))
				assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
			}
		})
	}
}

func TestDirectoryWithoutVersionsOffersNothing(t *testing.T) {
	got := newSite(t, open(t, t.TempDir())).get(t, "/distribution.txt")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Empty(t, got.body)
	assert.Equal(t, quoted(shard.EmptyDigest()), got.header.Get("ETag"))
}

// Python programs fetch a file by its shards, of which they expect one at least.
func TestEmptyVersionHasAManifestAndAnEmptyShard(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "")
	s := newSite(t, st)
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/manifest.json").status)
	for _, path := range []string{"/v1/shard_001.bin", "/py03/v1/shard_00001.bin"} {
		got := s.get(t, path)
		assert.Equal(t, http.StatusOK, got.status, path)
		assert.Empty(t, got.body, path)
	}
	assert.Equal(t, http.StatusNotFound, s.get(t, "/v1/shard_002.bin").status)
}

func TestConditionsAreHeeded(t *testing.T) {
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	s := newSite(t, st)
	etag, other := quoted(m.Shards[0]), quoted(m.Shards[1])
	for name, tc := range map[string]struct {
		fields []string
		status int
		body   string
	}{
		"none match, same":      {[]string{"If-None-Match", etag}, http.StatusNotModified, ""},
		"none match, weak":      {[]string{"If-None-Match", "W/" + etag}, http.StatusNotModified, ""},
		"none match, any":       {[]string{"If-None-Match", "*"}, http.StatusNotModified, ""},
		"none match, in a list": {[]string{"If-None-Match", other + ", " + etag}, http.StatusNotModified, ""},
		"none match, other":     {[]string{"If-None-Match", other}, http.StatusOK, "0123456789"},
		"match, same":           {[]string{"If-Match", etag}, http.StatusOK, "0123456789"},
		"match, other":          {[]string{"If-Match", other}, http.StatusPreconditionFailed, ""},
		"range, first byte":     {[]string{"Range", "bytes=0-0"}, http.StatusPartialContent, "0"},
		"range, middle":         {[]string{"Range", "bytes=3-5"}, http.StatusPartialContent, "345"},
		"range, to the end":     {[]string{"Range", "bytes=7-"}, http.StatusPartialContent, "789"},
		"range, the end":        {[]string{"Range", "bytes=-2"}, http.StatusPartialContent, "89"},
		"range, beyond the end": {[]string{"Range", "bytes=8-99"}, http.StatusPartialContent, "89"},
		"range, after the end": {
			[]string{"Range", "bytes=10-"},
			http.StatusRequestedRangeNotSatisfiable,
			"invalid range: failed to overlap\n",
		},
		"range, senseless": {
			[]string{"Range", "bytes=b-a"},
			http.StatusRequestedRangeNotSatisfiable,
			"invalid range\n",
		},
		"range if same":          {[]string{"Range", "bytes=7-", "If-Range", etag}, http.StatusPartialContent, "789"},
		"range if other":         {[]string{"Range", "bytes=7-", "If-Range", other}, http.StatusOK, "0123456789"},
		"range if same, weakly":  {[]string{"Range", "bytes=7-", "If-Range", "W/" + etag}, http.StatusOK, "0123456789"},
		"range, but it is known": {[]string{"Range", "bytes=7-", "If-None-Match", etag}, http.StatusNotModified, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.get(t, "/v1/shard_001.bin", tc.fields...)
			assert.Equal(t, tc.status, got.status)
			assert.Equal(t, tc.body, got.body)
			assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
			if tc.status < http.StatusBadRequest {
				assert.Equal(t, etag, got.header.Get("ETag"))
				assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
			}
		})
	}
}

func TestAnAnswerToARangeStatesItsOffset(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	got := newSite(t, st).get(t, "/v1/shard_001.bin", "Range", "bytes=3-5")
	assert.Equal(t, "bytes 3-5/10", got.header.Get("Content-Range"))
	assert.Equal(t, "3", got.header.Get("Content-Length"))
}

func TestAnythingElseIsNotFound(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	publish(t, st, 1, text)
	d, err := st.Draft(2)
	require.NoError(t, err)
	w, err := d.Create(1)
	require.NoError(t, err)
	_, err = w.Write([]byte("of a draft"))
	require.NoError(t, err)
	require.NoError(t, w.Commit())
	write(t, filepath.Join(dir, "notes.txt"), "mine")
	write(t, filepath.Join(dir, "v1", "notes.txt"), "mine")
	write(t, filepath.Join(dir, "v1", "shard_1.bin"), "mine")
	write(t, filepath.Join(dir, "v1", "shard_000.bin"), "mine")
	s := newSite(t, st)
	for _, path := range []string{
		"/v1", "/v1/", "/v1/.", "/v1/..", "/v2/", "/.shardcast", "/.shardcast/",
		"/distribution.txt/", "/Distribution.txt", "/./distribution.txt", "/v1/distribution.txt",
		"/notes.txt", "/data1.bin", "/v1/notes.txt",
		"/v2/manifest.json", "/v2/shard_001.bin", "/v2/SHA256SUMS", "/v1/sha256sums", "/SHA256SUMS",
		"/py01", "/py03", "/py01/", "/py03/", "/py04/distribution.txt", "/py01/py01/distribution.txt",
		"/py01/py03/distribution.txt",
		"/v1/py03/manifest.json", "/PY03/distribution.txt", "/py01/data1.bin", "/py03/notes.txt",
		"/v0/manifest.json", "/v01/manifest.json", "/V1/manifest.json", "/v-1/manifest.json", "/v+1/manifest.json",
		"/1/manifest.json", "/v/manifest.json", "/v1/manifest", "/v1/manifest.json/", "/v1/Manifest.json",
		"/v1//manifest.json",
		"/v1/shard_0.bin", "/v1/shard_000.bin", "/v1/shard_1.bin", "/v1/shard_01.bin", "/v1/shard_004.bin",
		"/v1/shard_-01.bin",
		"/v1/shard_+01.bin", "/v1/shard_0x1.bin", "/v1/shard_001.bin.part", "/v1/shard_001.BIN", "/v1/shard_001",
		"/v1/shard_001.bin/",
		"/v1/shard_65536.bin", "/v1/shard_65537.bin", "/v1/shard_99999999.bin", "/v1/shard_000000001.bin",
		"/v1/shard_18446744073709551617.bin", "/v1/shard_" + strings.Repeat("0", 2000) + "1.bin",
		"/v999999999999999999/manifest.json", "/v1000000000000000001/manifest.json",
		"/v18446744073709551617/manifest.json",
		"/.shardcast/state.json", "/.shardcast/write.lock", "/.shardcast/drafts/v2/shard_001.bin",
		"/v1/../.shardcast/state.json", "/%2eshardcast/state.json", "/.shardcast%2fstate.json",
		"/../etc/passwd", "/../../../../etc/passwd", "/v1/../../../../etc/passwd", "/%2e%2e/etc/passwd",
		"/v1/..%2f..%2f..%2fetc%2fpasswd", "/v1/%2e%2e%5cstate.json", "/v1%00/manifest.json", "/v1/shard_001.bin%00",
		"/etc/passwd", "//etc/passwd", "http://localhost/../etc/passwd",
	} {
		t.Run(path[:min(60, len(path))], func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := s.raw(t, method, path)
				assert.Equal(t, http.StatusNotFound, got.status)
				assert.Equal(t, "no-cache", got.header.Get("Cache-Control"), "it may come yet")
				assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
				assert.Empty(t, got.header.Get("ETag"))
				if method == http.MethodGet {
					assert.Equal(t, "Not Found\n", got.body)
				}
			}
		})
	}
}

func TestForeignThingsAreNotFound(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "shard_001.bin"), "outside")
	write(t, filepath.Join(outside, "manifest.json"), "outside")
	st := open(t, dir)
	publish(t, st, 1, text)
	s := newSite(t, st)
	for name, put := range map[string]func(t *testing.T, at string) error{
		"a file":      func(t *testing.T, at string) error { write(t, at, "mine"); return nil },
		"a directory": func(_ *testing.T, at string) error { return os.Mkdir(at, 0o700) },
		"a link":      func(_ *testing.T, at string) error { return os.Symlink(outside, at) },
		"a broken link": func(_ *testing.T, at string) error {
			return os.Symlink(filepath.Join(outside, "missing"), at)
		},
		"links inside": func(t *testing.T, at string) error {
			require.NoError(t, os.Mkdir(at, 0o700))
			require.NoError(t, os.Symlink(filepath.Join(outside, "manifest.json"), filepath.Join(at, "manifest.json")))
			return os.Symlink(filepath.Join(outside, "shard_001.bin"), filepath.Join(at, "shard_001.bin"))
		},
		"directories inside": func(t *testing.T, at string) error {
			require.NoError(t, os.MkdirAll(filepath.Join(at, "manifest.json"), 0o700))
			return os.Mkdir(filepath.Join(at, "shard_001.bin"), 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(dir, "v2")
			require.NoError(t, put(t, at))
			defer func() { require.NoError(t, os.RemoveAll(at)) }()
			for _, file := range []string{"shard_001.bin", "manifest.json"} {
				got := s.raw(t, http.MethodGet, "/v2/"+file)
				assert.Equal(t, http.StatusNotFound, got.status, file)
				assert.NotContains(t, got.body, "outside")
			}
		})
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	s := newSite(t, st)
	for _, method := range []string{
		http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace,
		"PROPFIND", "get",
	} {
		t.Run(method, func(t *testing.T) {
			for _, path := range []string{
				"/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin", "/healthz",
				"/py03/data1.bin", "/missing",
			} {
				got := s.raw(t, method, path)
				assert.Equal(t, http.StatusMethodNotAllowed, got.status, path)
				assert.Equal(t, "GET, HEAD", got.header.Get("Allow"))
				assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
			}
		})
	}
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/shard_001.bin").status)
}

func TestReplacedVersionIsSeenAtOnce(t *testing.T) {
	st := open(t, t.TempDir())
	s := newSite(t, st)
	old := publish(t, st, 1, text)
	paths := []string{"/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin"}
	before := make(map[string]answer)
	for _, path := range paths {
		before[path] = s.get(t, path)
	}
	retire(t, st, 1)
	for _, path := range paths[1:] {
		require.Equal(t, http.StatusNotFound, s.get(t, path).status)
	}
	m := publish(t, st, 1, strings.ToUpper(text)+" anew")
	require.NotEqual(t, old.Shards[1], m.Shards[1])

	for _, path := range paths {
		etag := before[path].header.Get("ETag")
		got := s.get(t, path, "If-None-Match", etag)
		if path == "/v1/shard_001.bin" { // which is the same in both
			assert.Equal(t, http.StatusNotModified, got.status)
			continue
		}
		assert.Equal(t, http.StatusOK, got.status, path)
		assert.NotEqual(t, etag, got.header.Get("ETag"), path)
		assert.NotEqual(t, before[path].body, got.body, path)
	}
	got := s.get(t, "/v1/shard_002.bin", "Range", "bytes=5-", "If-Range", quoted(old.Shards[1]))
	assert.Equal(t, http.StatusOK, got.status, "half of the old shard and half of the new one make none")
	assert.Equal(t, "ABCDEFGHIJ", got.body)
	assert.Equal(t, quoted(m.Shards[1]), got.header.Get("ETag"))
}

func TestReplacedVersionIsNotMixedWithTheFormerOne(t *testing.T) {
	st := open(t, t.TempDir())
	claim(t, st) // as a server does, so that the old version is kept for its readers
	s := newSite(t, st)
	publish(t, st, 1, text)
	retire(t, st, 1)
	require.Equal(t, "xyz", s.get(t, "/v1/shard_003.bin").body, "its readers may finish")
	publish(t, st, 1, "short")
	assert.Equal(t, "short", s.get(t, "/v1/shard_001.bin").body)
	assert.Equal(t, http.StatusNotFound, s.get(t, "/v1/shard_002.bin").status)
}

func TestDamageIsAnErrorOfTheServerAndIsKeptToItself(t *testing.T) {
	for name, tc := range map[string]struct {
		file, text, path string
	}{
		"manifest":     {"v1/manifest.json", "{", "/v1/manifest.json"},
		"distribution": {distfile.FileName, strings.Repeat("#\n", distfile.MaxSize), "/distribution.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir)
			publish(t, st, 1, text)
			m := publish(t, st, 2, text)
			write(t, filepath.Join(dir, filepath.FromSlash(tc.file)), tc.text)
			s := newSite(t, st)

			got := s.get(t, tc.path)
			assert.Equal(t, http.StatusInternalServerError, got.status)
			assert.Equal(t, "Internal Server Error\n", got.body, "no private detail")
			assert.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
			assert.Empty(t, got.header.Get("ETag"))

			assert.Equal(t, "0123456789", s.get(t, "/v1/shard_001.bin").body)
			assert.Equal(t, quoted(m.Shards[0]), s.get(t, "/v2/shard_001.bin").header.Get("ETag"))
			assert.Equal(t, http.StatusOK, s.get(t, "/v2/manifest.json").status)
		})
	}
}

func TestManyVersionsAreServedBeyondTheCache(t *testing.T) {
	st := open(t, t.TempDir())
	const versions = 20 // more than there are manifests in memory
	var manifests []shard.Manifest
	for v := range versions {
		manifests = append(manifests, publish(t, st, shard.Version(v+1), strings.Repeat(strconv.Itoa(v), 12)))
	}
	s := newSite(t, st)
	for range 2 {
		for v, m := range manifests {
			got := s.get(t, fmt.Sprintf("/v%d/shard_002.bin", v+1))
			assert.Equal(t, quoted(m.Shards[1]), got.header.Get("ETag"))
			assert.Equal(t, shard.Digest(sha256.Sum256([]byte(got.body))), m.Shards[1])
		}
	}
}
