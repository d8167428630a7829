package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

const cutText = "the first and the second"

// cutting is another process that cuts version 1 into a data directory.
type cutting struct {
	w        *store.Writer
	draft    *store.Draft
	outline  shard.Outline
	manifest shard.Manifest
	telling  *store.Announcement
}

// beginCut has somebody begin to cut cutText, in shards of 10 bytes, into dir.
func beginCut(t *testing.T, dir string) *cutting {
	t.Helper()
	w, err := open(t, dir).Lock(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Unlock() })
	c := &cutting{w: w, outline: shard.Outline{
		Version: 1, ID: sha256.Sum256([]byte("this cut")), Name: "file.bin",
		Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Size: int64(len(cutText)), ShardSize: 10,
	}}
	c.draft, err = w.Draft(1)
	require.NoError(t, err)
	c.telling, err = c.draft.Announce(c.outline)
	require.NoError(t, err)
	c.manifest, err = shard.Cut(t.Context(), strings.NewReader(cutText),
		shard.Plan{Size: c.outline.Size, ShardSize: 10, Create: c.draft.Create})
	require.NoError(t, err)
	c.manifest.Name, c.manifest.Date = c.outline.Name, c.outline.Date
	return c
}

// know has it tell of shard number.
func (c *cutting) know(number int) { c.telling.Know(number, c.manifest.Shards[number-1]) }

// lines are those of an answer that goes on.
type lines struct {
	*bufio.Scanner

	resp *http.Response
}

// follow asks s for what is being cut.
func follow(t *testing.T, s site) lines {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/unfinished.jsonl", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Prefer", "wait=30")
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return lines{bufio.NewScanner(resp.Body), resp}
}

// outline is what the first line says.
func (l lines) outline(t *testing.T) shard.Outline {
	t.Helper()
	require.True(t, l.Scan(), "%v", l.Err())
	o, err := shard.ParseOutline(l.Bytes())
	require.NoError(t, err)
	return o
}

// known is what the next line says.
func (l lines) known(t *testing.T) shard.Known {
	t.Helper()
	require.True(t, l.Scan(), "%v", l.Err())
	k, err := shard.ParseKnown(l.Bytes(), 3)
	require.NoError(t, err)
	return k
}

// requireEnd says that no line follows, and that the answer ends as it should.
func (l lines) requireEnd(t *testing.T) {
	t.Helper()
	require.False(t, l.Scan(), "%s", l.Text())
	require.NoError(t, l.Err())
}

// serving is a server of dir.
func serving(t *testing.T, dir string) site {
	t.Helper()
	return serveAs(t, server.Options{Store: open(t, dir), Logger: slog.New(slog.DiscardHandler)}).site
}

func TestWhatIsBeingCutIsToldAndServedAsItBecomesKnown(t *testing.T) {
	dir := t.TempDir()
	s := serving(t, dir)
	c := beginCut(t, dir)
	l := follow(t, s)
	assert.Equal(t, "wait=30", l.resp.Header.Get("Preference-Applied"))
	assert.Empty(t, l.resp.Header.Get("Shardcast-Tier"))
	assert.Equal(t, c.outline, l.outline(t))
	c.know(2)
	assert.Equal(t, shard.Known{Shard: 2, Digest: c.manifest.Shards[1]}, l.known(t))
	second := s.get(t, "/v1/shard_002.bin")
	assert.Equal(t, http.StatusOK, second.status)
	assert.Equal(t, cutText[10:20], second.body)
	assert.Equal(t, `"`+c.manifest.Shards[1].String()+`"`, second.header.Get("ETag"))
	assert.Equal(t, http.StatusServiceUnavailable, s.get(t, "/v1/shard_001.bin").status)
	assert.Equal(t, http.StatusNotFound, s.get(t, "/v1/shard_004.bin").status)
	assert.Equal(t, http.StatusNotFound, s.get(t, "/v1/manifest.json").status)
	assert.Empty(t, s.get(t, "/distribution.txt").body)
	c.know(1)
	assert.Equal(t, shard.Known{Shard: 1, Digest: c.manifest.Shards[0]}, l.known(t))

	// The last shard is told of by the manifest alone.
	require.NoError(t, c.w.Publish(c.draft, c.manifest, 15))
	assert.Equal(t, shard.Known{Shard: 3, Digest: c.manifest.Shards[2]}, l.known(t))
	assert.Equal(t, shard.Known{Digest: c.manifest.Digest}, l.known(t))
	l.requireEnd(t)
	assert.Equal(t, "v1: "+c.manifest.Digest.String()+"\n", s.get(t, "/distribution.txt").body)
	assert.Equal(t, http.StatusNoContent, s.get(t, "/unfinished.jsonl").status)
	assert.Equal(t, cutText[10:20], s.get(t, "/v1/shard_002.bin").body)
}

func TestACutThatFailsEndsWithoutItsLastLine(t *testing.T) {
	dir := t.TempDir()
	s := serving(t, dir)
	c := beginCut(t, dir)
	l := follow(t, s)
	l.outline(t)
	c.know(1)
	l.known(t)
	require.NoError(t, c.draft.Discard())
	require.NoError(t, c.w.Unlock())
	l.requireEnd(t)
	assert.Equal(t, http.StatusNotFound, s.get(t, "/v1/shard_001.bin").status)
	assert.Equal(t, http.StatusNoContent, s.get(t, "/unfinished.jsonl").status)

	// The next one of that number is another one.
	c = beginCut(t, dir)
	assert.Equal(t, c.outline, follow(t, s).outline(t))
}

func TestWhoWaitsForACutIsToldWhenOneBegins(t *testing.T) {
	dir := t.TempDir()
	s := serving(t, dir)
	begun := make(chan *cutting, 1)
	go func() { begun <- beginCut(t, dir) }() //nolint:testifylint // where it fails, the test fails too
	l := follow(t, s)
	assert.Equal(t, (<-begun).outline, l.outline(t))
}

func TestAnEndingServerEndsWhatItTellsOfACut(t *testing.T) {
	dir := t.TempDir()
	srv := serveAs(t, server.Options{Store: open(t, dir), Logger: slog.New(slog.DiscardHandler)})
	beginCut(t, dir)
	l := follow(t, srv.site)
	l.outline(t)
	srv.end()
	l.requireEnd(t)
	require.NoError(t, srv.wait(t))
}

func TestACutIsWaitedForAsLongAsTheClientPrefers(t *testing.T) {
	dir := t.TempDir()
	s := serving(t, dir)
	at := s.get(t, "/unfinished.jsonl")
	assert.Equal(t, http.StatusNoContent, at.status)
	assert.Empty(t, at.header.Get("Preference-Applied"))
	after := s.get(t, "/unfinished.jsonl", "Prefer", "wait=1")
	assert.Equal(t, http.StatusNoContent, after.status)
	assert.Equal(t, "wait=1", after.header.Get("Preference-Applied"))
	assert.Equal(t, http.StatusNoContent, s.ask(t, http.MethodHead, "/unfinished.jsonl", "Prefer", "wait=30").status)
	c := beginCut(t, dir)
	follow(t, s).outline(t)
	head := s.ask(t, http.MethodHead, "/unfinished.jsonl")
	assert.Equal(t, http.StatusOK, head.status)
	assert.Empty(t, head.body)
	require.NoError(t, c.w.Unlock())
}

func TestAMiddleTellsOnWhatItIsToldOfACut(t *testing.T) {
	board := relay.NewBoard()
	st, err := store.Open(t.TempDir(), store.Middle)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	s := serveAs(t, server.Options{Store: st, Board: board, Logger: slog.New(slog.DiscardHandler)}).site
	o := shard.Outline{
		Version: 1, ID: sha256.Sum256([]byte("this cut")), Name: "file.bin",
		Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Size: 20, ShardSize: 10,
	}
	v := board.BeginUnfinished(o, 2, func(int) (relay.File, error) { return nil, os.ErrNotExist })
	l := follow(t, s)
	assert.Equal(t, "2", l.resp.Header.Get("Shardcast-Tier"))
	assert.Equal(t, o, l.outline(t))
	v.End()
	l.requireEnd(t)
}

// What was told just before the end of a cut is not missed, whatever the moment.
func TestACutIsToldOfWhole(t *testing.T) {
	dir := t.TempDir()
	s := serving(t, dir)
	c := beginCut(t, dir)
	l := follow(t, s)
	l.outline(t)
	for number := range 3 {
		c.know(number + 1)
	}
	require.NoError(t, c.w.Publish(c.draft, c.manifest, 15))
	require.NoError(t, c.w.Unlock())
	for number := range 3 {
		assert.Equal(t, shard.Known{Shard: number + 1, Digest: c.manifest.Shards[number]}, l.known(t))
	}
	assert.Equal(t, shard.Known{Digest: c.manifest.Digest}, l.known(t))
	l.requireEnd(t)
}

// What has just been published is not refused because that has not been seen yet.
func TestACutIsServedAsSoonAsItIsPublished(t *testing.T) {
	dir := t.TempDir()
	s := serving(t, dir)
	c := beginCut(t, dir)
	follow(t, s).outline(t)
	require.NoError(t, c.w.Publish(c.draft, c.manifest, 15))
	for number, want := range []string{cutText[:10], cutText[10:20], cutText[20:]} {
		got := s.get(t, "/v1/"+shard.FileName(number+1))
		assert.Equal(t, http.StatusOK, got.status)
		assert.Equal(t, want, got.body)
	}
}
