package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
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
	st := open(t, dir)
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	known := http.Header{"If-None-Match": {tagOf("one")}, "Prefer": {"wait=60"}}
	w := h.request(t, "/release.txt", known)
	h.await(t, 1)
	publish(t, st, 1, text)
	beside := h.hold(t, tagOf(h.get(t, "/distribution.txt").body), "wait=60") // looked at since
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
	before := "none"
	for _, signed := range []string{"one", "two", "two, and longer"} {
		w := h.hold(t, tagOf(listed), "wait=60")
		stating := h.request(t, "/distribution.txt", http.Header{
			"If-None-Match": {tagOf(listed)}, "Prefer": {"wait=60"}, "Shardcast-Release": {before},
		})
		h.await(t, 1)
		old := h.request(t, "/py03/distribution.txt", http.Header{
			"If-None-Match": {h.get(t, "/py03/distribution.txt").header.Get("ETag")}, "Prefer": {"wait=60"},
		})
		h.await(t, 1)
		sign(t, dir, signed)
		for _, w := range []waiter{w, stating} {
			got := w.get(t)
			assert.Equal(t, http.StatusNotModified, got.status)
			assert.Equal(t, "wait=60", got.header.Get("Preference-Applied"))
			assert.Equal(t, digestOf(signed), got.header.Get("Shardcast-Release"))
		}
		assert.Empty(t, old.answer, "the Python package knows no release")
		old.cancel()
		before = digestOf(signed)
	}
	w := h.hold(t, tagOf(listed), "wait=60")
	require.NoError(t, os.Remove(filepath.Join(dir, "release.txt")))
	assert.NotContains(t, w.get(t).header, "Shardcast-Release")
}

// A release that came between two requests of a node is news for the second one.
func TestARequestThatStatesAnotherReleaseIsNotHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	known := tagOf(line(1, publish(t, st, 1, text).Digest))
	sign(t, dir, "now")
	h := servePushing(t, server.Options{Catalog: catalog.New(st, nil)})
	for stated, held := range map[string]bool{
		digestOf("now"): true, "": true, "what is no digest": true, strings.ToUpper(digestOf("now")): true,
		digestOf("before"): false, "none": false,
	} {
		w := h.request(t, "/distribution.txt", http.Header{
			"If-None-Match": {known}, "Prefer": {"wait=60"}, "Shardcast-Release": {stated},
		})
		if held {
			h.await(t, 1)
			w.cancel()
			continue
		}
		got := w.get(t)
		assert.Equal(t, http.StatusNotModified, got.status, stated)
		assert.Equal(t, digestOf("now"), got.header.Get("Shardcast-Release"), stated)
	}
}
