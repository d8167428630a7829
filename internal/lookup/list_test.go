package lookup_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestListHasTheManifests(t *testing.T) {
	files := [][]byte{content(1, 3*shardSize), nil, content(3, 1)}
	got, err := newFinder(t, newSite(t, files...)).List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, len(files))
	for i, data := range files {
		count := (len(data) + shardSize - 1) / shardSize
		want := distfile.Entry{Version: shard.Version(i + 1), Digest: digestOf(data), Count: count}
		assert.Equal(t, want, got[i].Entry)
		require.NotNil(t, got[i].Manifest)
		assert.Equal(t, int64(len(data)), got[i].Manifest.Size)
		assert.Nil(t, got[i].Manifest.Shards, "of many versions they would fill the memory")
		assert.Equal(t, "weights.bin", got[i].Manifest.Name)
	}
}

func TestListLeavesOutManifestsThatNoServerHas(t *testing.T) {
	one, two := digestOf([]byte("one")), digestOf([]byte("two"))
	s := sitetest.Plain(t, map[string]string{
		"distribution.txt": fmt.Sprintf("v1: %s|1\nv2: %s\n", one, two),
		"v1/shard_001.bin": "one", "v2/shard_001.bin": "two",
	})
	got, err := newFinder(t, s).List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, distfile.Entry{Version: 1, Digest: one, Count: 1}, got[0].Entry)
	assert.Equal(t, distfile.Entry{Version: 2, Digest: two}, got[1].Entry)
	assert.Nil(t, got[0].Manifest)
	assert.Nil(t, got[1].Manifest)
}

func TestListLeavesOutManifestsThatAreWrong(t *testing.T) {
	one := digestOf([]byte("one"))
	s := sitetest.Plain(t, map[string]string{
		"distribution.txt": fmt.Sprintf("v1: %s\n", one), "v1/manifest.json": "<html>",
	})
	got, err := newFinder(t, s).List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Nil(t, got[0].Manifest)
}

func TestListNeedsOneServer(t *testing.T) {
	down := newSite(t)
	down.Close()
	got, err := newFinder(t, down, newSite(t, content(1, 10))).List(t.Context())
	require.NoError(t, err)
	assert.Len(t, got, 1)
	_, err = newFinder(t, down).List(t.Context())
	assert.ErrorIs(t, err, fetch.ErrUnreachable)
}

func TestListOfNothing(t *testing.T) {
	got, err := newFinder(t, newSite(t)).List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestFindTakesAVersionOrTheNewest(t *testing.T) {
	f := newFinder(t, newSite(t, content(1, 1), content(2, 2), content(3, 3)))
	for want, asked := range map[shard.Version]shard.Version{3: 0, 1: 1, 2: 2} {
		e, err := f.Find(t.Context(), asked)
		require.NoError(t, err)
		assert.Equal(t, want, e.Version)
	}
	_, err := f.Find(t.Context(), 4)
	require.ErrorIs(t, err, fetch.ErrNoVersion)
	require.ErrorContains(t, err, "v4 is not among the 3 on offer, from v1 to v3")
	_, err = newFinder(t, newSite(t)).Find(t.Context(), 0)
	require.ErrorIs(t, err, fetch.ErrNoVersion)
}

func TestFindWaitsForASlowServerBeforeItFails(t *testing.T) {
	var asked atomic.Int64
	answer := make(chan struct{})
	quick := sitetest.Serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 2 {
			close(answer) // too late for a Find that goes on with the answer of the quick one
		}
	}))
	slow := sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-answer
		fmt.Fprintf(w, "v7: %s\n", digestOf([]byte("seven")))
	}))
	e, err := newFinder(t, slow, quick).Find(t.Context(), 7)
	require.NoError(t, err)
	assert.Equal(t, shard.Version(7), e.Version)
}

func TestListOfVeryManyVersionsAsksForTheManifestsOfTheNewest(t *testing.T) {
	const versions = distfile.MaxEntries
	var lines strings.Builder
	for v := 1; v <= versions; v++ {
		fmt.Fprintf(&lines, "v%d: %s\n", v, digestOf([]byte("one")))
	}
	var asked atomic.Int64
	s := sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+distfile.FileName {
			_, _ = io.WriteString(w, lines.String())
			return
		}
		asked.Add(1)
		var number int
		_, _ = fmt.Sscanf(r.URL.Path, "/v%d/", &number)
		assert.Greater(t, number, versions-1000)
		http.NotFound(w, r)
	}))
	got, err := newFinder(t, s).List(t.Context())
	require.NoError(t, err)
	assert.Len(t, got, versions)
	assert.LessOrEqual(t, asked.Load(), int64(1000))
}
