package server_test

import (
	"crypto/sha256"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
)

// sign puts text in place of the release of a data directory.
func sign(t *testing.T, dir, text string) {
	t.Helper()
	name := filepath.Join(dir, "release.txt")
	write(t, name+".new", text)
	require.NoError(t, os.Rename(name+".new", name))
}

// digestOf is the digest of a text, as in Shardcast-Release.
func digestOf(text string) string { return strings.Trim(tagOf(text), `"`) }

func TestTheReleaseIsServedAsItIsWritten(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	listed := line(1, publish(t, st, 1, text).Digest)
	s := newSite(t, st)
	missing := s.get(t, "/release.txt")
	assert.Equal(t, http.StatusNotFound, missing.status)
	assert.NotContains(t, missing.header, "Shardcast-Release")
	assert.NotContains(t, s.get(t, "/distribution.txt").header, "Shardcast-Release")

	for _, signed := range []string{"one\r\n\x00\xff", "two", "", "one\r\n\x00\xff"} {
		sign(t, dir, signed)
		got := s.get(t, "/release.txt")
		assert.Equal(t, http.StatusOK, got.status)
		assert.Equal(t, signed, got.body)
		assert.Equal(t, tagOf(signed), got.header.Get("ETag"))
		assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
		assert.Equal(t, digestOf(signed), got.header.Get("Shardcast-Release"))
		assert.Empty(t, s.ask(t, http.MethodHead, "/release.txt").body)

		again := s.get(t, "/release.txt", "If-None-Match", tagOf(signed))
		assert.Equal(t, http.StatusNotModified, again.status)
		assert.Equal(t, digestOf(signed), again.header.Get("Shardcast-Release"))

		beside := s.get(t, "/distribution.txt")
		assert.Equal(t, listed, beside.body)
		assert.Equal(t, digestOf(signed), beside.header.Get("Shardcast-Release"))
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "release.txt")))
	assert.Equal(t, http.StatusNotFound, s.get(t, "/release.txt").status)
}

func TestThePythonPackageHasNoRelease(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	publish(t, st, 1, text)
	sign(t, dir, "signed")
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Dialect: server.Dialect03})
	assert.Equal(t, "signed", s.get(t, "/release.txt").body, "a node of ours may ask such a server, too")
	for _, dialect := range []string{"/py01", "/py02", "/py03"} {
		assert.Equal(t, http.StatusNotFound, s.get(t, dialect+"/release.txt").status)
		assert.NotContains(t, s.get(t, dialect+"/distribution.txt").header, "Shardcast-Release")
	}
}

func TestAReleaseThatIsTooLargeIsNotServed(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, open(t, dir))
	sign(t, dir, strings.Repeat("x", 4<<20))
	assert.Equal(t, http.StatusOK, s.get(t, "/release.txt").status)
	sign(t, dir, strings.Repeat("x", 4<<20+1))
	assert.Equal(t, http.StatusInternalServerError, s.get(t, "/release.txt").status)
}

func TestARequestForTheReleaseIsHeldUntilItChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sign(t, dir, "one")
	board := relay.NewBoard()
	h := servePushing(t, server.Options{Catalog: catalog.New(open(t, dir), board)})
	known := http.Header{"If-None-Match": {tagOf("one")}, "Prefer": {"wait=60"}}
	w := h.request(t, "/release.txt", known)
	h.await(t, 1)
	board.List(entryOf(1, text))
	beside := h.hold(t, h.get(t, "/distribution.txt").header.Get("ETag"), "wait=60") // looked at since
	assert.Empty(t, w.answer, "it is not held for other news")
	sign(t, dir, "two")
	got := w.get(t)
	assert.Equal(t, http.StatusOK, got.status)
	assert.Equal(t, "two", got.body)
	assert.Equal(t, "wait=60", got.header.Get("Preference-Applied"))
	beside.get(t)

	known["If-None-Match"] = []string{tagOf("two")}
	w = h.request(t, "/release.txt", known)
	h.await(t, 1)
	require.NoError(t, os.Remove(filepath.Join(dir, "release.txt")))
	assert.Equal(t, http.StatusNotFound, w.get(t).status)
	assert.Equal(t, http.StatusNotFound, h.request(t, "/release.txt", known).get(t).status, "nothing to wait for")
}

func TestARequestForTheDistributionEndsWhenTheReleaseChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	listed := line(1, publish(t, st, 1, text).Digest)
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	known := tagOf(listed)
	for _, signed := range []string{"one", "two", "two, and longer"} {
		w := h.hold(t, known, "wait=60")
		old := h.request(t, "/py03/distribution.txt", http.Header{
			"If-None-Match": {h.get(t, "/py03/distribution.txt").header.Get("ETag")}, "Prefer": {"wait=60"},
		})
		h.await(t, 1)
		sign(t, dir, signed)
		got := w.get(t)
		assert.Equal(t, http.StatusOK, got.status, "a cache keeps the header of what it has, unless all of it is new")
		assert.Equal(t, listed, got.body)
		assert.Equal(t, "wait=60", got.header.Get("Preference-Applied"))
		assert.Equal(t, digestOf(signed), got.header.Get("Shardcast-Release"))
		assert.Empty(t, old.answer, "the Python package knows no release")
		old.cancel()
		known = got.header.Get("ETag")
		assert.Equal(t, `"`+digestOf(listed)+"-"+digestOf(signed)+`"`, known)
		same := h.get(t, "/distribution.txt", "If-None-Match", known)
		assert.Equal(t, http.StatusNotModified, same.status)
		assert.Equal(t, digestOf(signed), same.header.Get("Shardcast-Release"))
	}
	w := h.hold(t, known, "wait=60")
	require.NoError(t, os.Remove(filepath.Join(dir, "release.txt")))
	got := w.get(t)
	assert.Equal(t, tagOf(listed), got.header.Get("ETag"))
	assert.NotContains(t, got.header, "Shardcast-Release")
}

// A release that came between two requests of a node is news for the second one.
func TestARequestOfANodeWithAnotherReleaseIsNotHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	listed := line(1, publish(t, st, 1, text).Digest)
	sign(t, dir, "now")
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	beside := func(signed string) string { return `"` + digestOf(listed) + "-" + digestOf(signed) + `"` }
	h.hold(t, beside("now"), "wait=60").cancel()
	h.hold(t, beside("before")+", W/"+beside("now"), "wait=60").cancel()
	for _, known := range []string{beside("before"), tagOf(listed), tagOf("now")} {
		got := h.send(t, known, "wait=60").get(t)
		assert.Equal(t, http.StatusOK, got.status, known)
		assert.Equal(t, beside("now"), got.header.Get("ETag"))
	}
}

// signedFor signs a release of the versions in entries, which expires after some time.
func signedFor(t *testing.T, valid time.Duration, entries ...release.Entry) string {
	t.Helper()
	key, err := release.GenerateKey()
	require.NoError(t, err)
	issued := time.Now().Add(-time.Hour).Truncate(time.Second)
	list := release.Release{
		Feed: "weights.example.org/llama", Epoch: 3, Seq: 1764375000123, Issued: issued, Entries: entries,
	}
	if valid != 0 {
		list.Expires = issued.Add(valid)
	}
	signed, err := list.Sign(key)
	require.NoError(t, err)
	return string(signed.Bytes())
}

// An expired release takes nothing away: readers with a key decide about it.
func TestReadyzSaysThatTheReleaseHasExpired(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	m := metrics.New("origin", "1")
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: m})
	for _, tc := range []struct{ text, want string }{
		{signedFor(t, 0), "^ok\n$"},
		{signedFor(t, 2*time.Hour), "^ok\n$"},
		{signedFor(t, time.Minute), `^ok\nrelease expired at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\n$`},
		{"no release", "^ok\n$"},
	} {
		sign(t, dir, tc.text)
		got := s.get(t, "/readyz")
		assert.Equal(t, http.StatusOK, got.status)
		assert.Regexp(t, tc.want, got.body)
		assert.Contains(t, s.get(t, "/metrics").body, "\nshardcast_ready 1\n")
	}
}

func TestTheMetricsHaveTheTimesAndTheNumberOfTheRelease(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", "1")})
	for _, tc := range []struct {
		text              string
		numbered, expires bool
	}{
		{"", false, false},
		{"no release", false, false},
		{signedFor(t, 0), true, false},
		{signedFor(t, time.Hour), true, true},
	} {
		if tc.text != "" {
			sign(t, dir, tc.text)
		}
		got := s.get(t, "/metrics").body
		assert.Equal(t, tc.numbered, strings.Contains(got, "\nshardcast_release_seq 1.764375000123e+12\n"))
		assert.Equal(t, tc.numbered, strings.Contains(got, "\nshardcast_release_issued_timestamp_seconds "))
		assert.Equal(t, tc.expires, strings.Contains(got, "\nshardcast_release_expires_timestamp_seconds "))
	}
}

func TestTheStatusHasTheReleaseAndWhichVersionsAreSigned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	var entries []release.Entry
	for v := range shard.Version(4) {
		m := publish(t, st, v+1, text)
		written, err := os.ReadFile(filepath.Join(dir, (v + 1).String(), "manifest.json"))
		require.NoError(t, err)
		entries = append(entries,
			release.Entry{Version: v + 1, Digest: m.Digest, Size: m.Size, Manifest: sha256.Sum256(written)})
	}
	entries[1].Manifest[0]++
	entries[2] = release.Entry{Version: 3, Withdrawn: true}
	seen := func(files ...string) string {
		for _, text := range files {
			sign(t, dir, text)
		}
		s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Status: &server.Status{Role: "origin"}})
		return s.get(t, "/status.json").body + s.get(t, "/").body
	}
	without := seen()
	assert.NotContains(t, without, `"release"`)
	assert.NotContains(t, without, "signed")

	got := seen(signedFor(t, 0, entries[:3]...))
	assert.Regexp(t, `"release":\{"feed":"weights.example.org/llama","epoch":3,"seq":1764375000123,`+
		`"issued":"[^"]+Z","expired":false\}`, got)
	for _, want := range []string{
		`"version":"v4",[^}]*"signed":false`, `"version":"v3",[^}]*"signed":false`,
		`"version":"v2",[^}]*"signed":false`, `"version":"v1",[^}]*"signed":true`,
		`>v1 <span class="state">signed</span>`, `>v2 <span class="state bad">not signed</span>`,
		`<b>3, 1764375000123</b>`, `<b>1\x{a0}h ago</b>`, `<b>never</b>`,
	} {
		assert.Regexp(t, want, got)
	}
	got = seen(signedFor(t, time.Minute))
	assert.Regexp(t, `"expires":"[^"]+Z","expired":true\}`, got)
	assert.Regexp(t, `<b class="bad">expired 59\x{a0}min ago</b>`, got)
	got = seen("no release")
	assert.Regexp(t, `"release":\{"expired":false,"error":"[^{}]*wrong form[^{}]*"\}`, got)
	assert.Contains(t, got, `"signed":false`)
	assert.Contains(t, got, "It cannot be read: ")
}
