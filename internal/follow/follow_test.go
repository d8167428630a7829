package follow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/follow"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
)

var errEnough = errors.New("enough")

// publish publishes data at s.
func publish(t *testing.T, s *site, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weights.bin")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err := origin.New(s.Store, shardSize, 100, silent).Broadcast(t.Context(), path)
	require.NoError(t, err)
}

// take follows s until count versions have come or were passed over, and returns these, with a +
// or -.
func take(t *testing.T, s *site, o follow.Options, count int) (versions []string) {
	t.Helper()
	err := follow.Run(t.Context(), with(t, o, s), func(got follow.Delivery, err error) bool {
		sign := "+"
		if err != nil {
			sign = "-"
		} else {
			assert.FileExists(t, got.Path)
		}
		versions = append(versions, sign+got.Entry.Version.String())
		return len(versions) < count
	})
	require.NoError(t, err)
	return versions
}

func TestFollowTakesTheNewestAndThenNewerOnes(t *testing.T) {
	s := newSite(t, content(1, 10), content(2, 10))
	dir := t.TempDir()
	assert.Equal(t, []string{"+v2"}, take(t, s, follow.Options{Dir: dir}, 1))
	assert.Equal(t, []string{"/v2/shard_001.bin"}, s.ShardsAsked())
	publish(t, s, content(3, 10))
	assert.Equal(t, []string{"+v3"}, take(t, s, follow.Options{Dir: dir}, 1))
	assertFiles(t, filepath.Join(dir, "v3"), map[string][]byte{"weights.bin": content(3, 10)})
	assert.Equal(t, []string{"/v3/shard_001.bin"}, s.ShardsAsked())
}

func TestFollowTakesAllInOrder(t *testing.T) {
	s := newSite(t, content(1, 10), content(2, 10), content(3, 10), content(4, 10))
	for name, tc := range map[string]struct {
		follow follow.Options
		want   []string
	}{
		"all":           {follow.Options{All: true}, []string{"+v1", "+v2", "+v3", "+v4"}},
		"from":          {follow.Options{From: 2}, []string{"+v2", "+v3", "+v4"}},
		"all from":      {follow.Options{From: 3, All: true}, []string{"+v3", "+v4"}},
		"newest":        {follow.Options{SkipStale: true}, []string{"+v4"}},
		"from, and new": {follow.Options{From: 3, SkipStale: true}, []string{"+v3", "+v4"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.follow.Dir, tc.follow.Keep = t.TempDir(), 1
			assert.Equal(t, tc.want, take(t, s, tc.follow, len(tc.want)))
			assertFiles(t, tc.follow.Dir, map[string][]byte{".shardcast-follow": nil, "v4": nil})
		})
	}
}

func TestFollowDeliversAgainAfterAnInterruption(t *testing.T) {
	s := newSite(t, content(1, 10))
	f := follow.Options{Dir: t.TempDir()}
	ctx, cancel := context.WithCancelCause(t.Context())
	err := follow.Run(ctx, with(t, f, s), func(follow.Delivery, error) bool {
		cancel(errEnough)
		return true
	})
	require.ErrorIs(t, err, errEnough)
	s.ShardsAsked()
	var got follow.Delivery
	require.NoError(t, follow.Run(t.Context(), with(t, f, s), func(again follow.Delivery, err error) bool {
		assert.NoError(t, err)
		got = again
		return false
	}))
	assert.Equal(t, shard.Version(1), got.Entry.Version)
	assert.Equal(t, digestOf(content(1, 10)), got.Entry.Digest)
	assert.Equal(t, "weights.bin", got.Manifest.Name)
	assert.Equal(t, 1, got.Entry.Count)
	assert.Equal(t, int64(10), got.Progress.Resumed)
	assert.Empty(t, s.ShardsAsked(), "it came from the disk")
}

func TestFollowPassesOverAVersionThatCannotCome(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil   http.HandlerFunc
		foreign bool
		want    []string
	}{
		"wrong bytes": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content(9, 20)) }, false,
			[]string{"-v2", "+v1"},
		},
		"a foreign file": {nil, true, []string{"-v2", "+v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, 10), content(2, 20))
			dir := t.TempDir()
			want := map[string][]byte{".shardcast-follow": nil, "v1": nil}
			if tc.foreign {
				require.NoError(t, os.Mkdir(filepath.Join(dir, "v2"), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "v2", "weights.bin"), content(3, 20), 0o600))
				want["v2"] = nil
			}
			if tc.spoil != nil {
				s.SpoilShards(func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.Path, "/v2/") {
						tc.spoil(w, r)
						return
					}
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content(1, 10)))
				})
			}
			assert.Equal(t, tc.want, take(t, s, follow.Options{Dir: dir}, 2))
			assertFiles(t, dir, want)
		})
	}
}

func TestFollowRecognisesAFileThatWasThereBefore(t *testing.T) {
	s := newSite(t, content(1, 10))
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o700))
	path := filepath.Join(dir, "v1", "weights.bin")
	require.NoError(t, os.WriteFile(path, content(1, 10), 0o600))
	assert.Equal(t, []string{"+v1"}, take(t, s, follow.Options{Dir: dir, Keep: 1}, 1))
	assert.Empty(t, s.ShardsAsked())
	publish(t, s, content(2, 10))
	assert.Equal(t, []string{"+v2"}, take(t, s, follow.Options{Dir: dir, Keep: 1}, 1))
	assert.FileExists(t, path, "it was there before")
}

func TestFollowFetchesARemovedFileAgain(t *testing.T) {
	s := newSite(t, content(1, 10))
	f := follow.Options{Dir: t.TempDir(), Marker: "stable"}
	take(t, s, f, 1)
	require.NoError(t, os.Remove(filepath.Join(f.Dir, "v1", "weights.bin")))
	assert.Equal(t, []string{"+v1"}, take(t, s, f, 1))
	assertFiles(t, filepath.Join(f.Dir, "v1"), map[string][]byte{"weights.bin": content(1, 10), "stable": {}})
}

// board is a server's distribution.txt.
type board struct {
	mu      sync.Mutex // guards entries
	entries []distfile.Entry
}

func (b *board) set(entries ...distfile.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = entries
}

// laggard answers as behind does, but lists the entries of b.
func laggard(t *testing.T, behind *site, b *board) *site {
	t.Helper()
	return sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "distribution.txt") {
			http.Redirect(w, r, behind.URL+r.URL.Path, http.StatusFound)
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		_, _ = w.Write(distfile.Encode(b.entries))
	}))
}

// endAt is a log that ends a context at a line with this text.
type endAt struct {
	text string
	end  context.CancelCauseFunc
}

func (e endAt) Write(line []byte) (int, error) {
	if strings.Contains(string(line), e.text) {
		e.end(errEnough)
	}
	return len(line), nil
}

func TestFollowDistinguishesServersThatLagFromAnOriginThatStartsOver(t *testing.T) {
	s := newSite(t, content(1, 10), content(2, 10), content(3, 10))
	entries := make([]distfile.Entry, 4)
	for i := range entries {
		entries[i] = distfile.Entry{Version: shard.Version(i + 1), Digest: digestOf(content(byte(i+1), 10))}
	}
	f := follow.Options{Dir: t.TempDir()}
	require.Equal(t, []string{"+v3"}, take(t, s, f, 1))

	// A server has less: that is no news. It has another v2: that is.
	b := new(board)
	b.set(entries[:2]...)
	ctx, cancel := context.WithCancelCause(t.Context())
	u, err := url.Parse(laggard(t, s, b).URL)
	require.NoError(t, err)
	pool, err := fetch.New(fetch.Options{Upstreams: []*url.URL{u}, Attempts: 1})
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	quiet, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	f.Pool, f.Client = pool, client.New(pool, silent)
	f.Logger = slog.New(slog.NewTextHandler(endAt{"started over", cancel}, nil))
	err = follow.Run(quiet, f, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// But only where a restart is expected: the list may be an old one.
	b.set(entries[0], distfile.Entry{Version: 2, Digest: digestOf([]byte("another"))})
	refused, end := context.WithCancelCause(t.Context())
	f.Logger = slog.New(slog.NewTextHandler(endAt{"numbers have gone back", end}, nil))
	require.ErrorIs(t, follow.Run(refused, f, nil), errEnough)
	f.AcceptRestart, f.Logger = true, slog.New(slog.NewTextHandler(endAt{"started over", cancel}, nil))
	err = follow.Run(ctx, f, func(follow.Delivery, error) bool {
		return true
	})
	require.ErrorIs(t, err, errEnough)
}

func TestFollowRefusesInvalidOptions(t *testing.T) {
	for name, f := range map[string]follow.Options{
		"template":              {Template: "{names}"},
		"keep":                  {Keep: -1},
		"all and stale":         {All: true, SkipStale: true},
		"marker with directory": {Marker: "a/b"},
		"link with directory":   {Link: "../latest"},
		"marker for all":        {Template: "{n}.bin", Marker: "stable"},
		"link is a directory":   {Template: "latest/{n}.bin", Link: "latest"},
		"marker is ours":        {Marker: ".shardcast-follow"},
	} {
		f.Dir = filepath.Join(t.TempDir(), "none")
		require.Error(t, follow.Run(t.Context(), with(t, f, newSite(t)), nil), name)
		assert.NoDirExists(t, f.Dir, name)
	}
}

func TestFollowRefusesABadRecord(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":              "",
		"no JSON":              "{",
		"no object":            `"v1"`,
		"a path elsewhere":     `{"held": [{"version": 1, "path": "../../etc/passwd"}]}`,
		"no path":              `{"held": [{"version": 1}]}`,
		"the directory":        `{"begun": {"version": 1, "path": "."}}`,
		"a marker elsewhere":   `{"held": [{"version": 1, "path": "v1/f", "marker": "/etc/passwd"}]}`,
		"a link elsewhere":     `{"link": "../latest"}`,
		"directory elsewhere":  `{"dirs": ["v1/../.."]}`,
		"the record itself":    `{"held": [{"version": 1, "path": ".shardcast-follow/versions.json"}]}`,
		"a number that is bad": `{"held": [{"version": 0, "path": "v1/f"}]}`,
		"one that is too high": `{"last": 18446744073709551615}`,
	} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, ".shardcast-follow"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".shardcast-follow", "versions.json"), []byte(text), 0o600))
		err := follow.Run(t.Context(), with(t, follow.Options{Dir: dir}, newSite(t)), nil)
		require.ErrorContains(t, err, filepath.Join(dir, ".shardcast-follow", "versions.json"), name)
		require.ErrorContains(t, err, "remove it", name)
	}
}

func TestFollowIsTheOnlyOneInItsDirectory(t *testing.T) {
	s := newSite(t, content(1, 10))
	f := follow.Options{Dir: t.TempDir()}
	require.NoError(t, follow.Run(t.Context(), with(t, f, s), func(follow.Delivery, error) bool {
		err := follow.Run(t.Context(), with(t, f, s), nil)
		assert.ErrorContains(t, err, "another follow keeps this directory")
		return false
	}))
}

func TestFollowKeepsItsRecordSmall(t *testing.T) {
	var files [][]byte
	for i := range 40 {
		files = append(files, fmt.Append(nil, i))
	}
	s := newSite(t, files...)
	f := follow.Options{Dir: t.TempDir(), All: true}
	take(t, s, f, 40)
	info, err := os.Stat(filepath.Join(f.Dir, ".shardcast-follow", "versions.json"))
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(40<<10))
}

// rewrite changes the record of dir.
func rewrite(t *testing.T, dir string, change func(record map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, ".shardcast-follow", "versions.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var record map[string]any
	require.NoError(t, json.Unmarshal(text, &record))
	change(record)
	text, err = json.Marshal(record)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

func TestFollowRecognisesAFileRenamedJustBeforeACrash(t *testing.T) {
	for name, tc := range map[string]struct {
		file []byte // that is there afterwards
		want []string
	}{
		"renamed":        {content(1, 10), []string{"+v1"}},
		"a foreign file": {content(2, 10), []string{"-v1"}},
		"not yet":        {nil, []string{"+v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, 10))
			f := follow.Options{Dir: t.TempDir(), Marker: "stable"}
			take(t, s, f, 1)
			dir := filepath.Join(f.Dir, "v1")
			require.NoError(t, os.Remove(filepath.Join(dir, "stable")))
			require.NoError(t, os.Remove(filepath.Join(dir, "weights.bin")))
			want := map[string][]byte{"weights.bin": tc.file}
			if tc.file != nil {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "weights.bin"), tc.file, 0o600))
			} else {
				want["weights.bin"] = content(1, 10)
			}
			rewrite(t, f.Dir, func(record map[string]any) {
				held, _ := record["held"].([]any)
				require.Len(t, held, 1)
				begun, _ := held[0].(map[string]any)
				begun["delivered"], begun["modified"] = false, 0
				record["held"], record["begun"], record["last"], record["known"] = nil, begun, 0, nil
			})
			assert.Equal(t, tc.want, take(t, s, f, 1))
			if tc.want[0] == "+v1" {
				want["stable"] = []byte{}
			}
			assertFiles(t, dir, want)
		})
	}
}

func TestFollowRemovesAPartialFileThatItDoesNotContinue(t *testing.T) {
	// Enough shards for their bytes to fill blocks of the disk.
	const resumable = 30
	s := newSite(t, content(1, shardSize*resumable))
	f := follow.Options{Dir: t.TempDir()}
	ctx, cancel := context.WithCancelCause(t.Context())
	s.SpoilShard("shard_030.bin", func(w http.ResponseWriter, r *http.Request) {
		cancel(errEnough)
		sitetest.Silence(w, r)
	})
	require.ErrorIs(t, follow.Run(ctx, with(t, f, s), nil), errEnough)
	assert.FileExists(t, filepath.Join(f.Dir, "v1", ".weights.bin.shardcast-part"))
	publish(t, s, content(2, 10))
	assert.Equal(t, []string{"+v2"}, take(t, s, f, 1))
	assertFiles(t, f.Dir, map[string][]byte{".shardcast-follow": nil, "v2": nil})
}

func TestFollowRemovesItsOwnFileThoughItWasTouched(t *testing.T) {
	s := newSite(t, content(1, 10))
	f := follow.Options{Dir: t.TempDir(), Keep: 1}
	take(t, s, f, 1)
	require.NoError(t, os.Chtimes(filepath.Join(f.Dir, "v1", "weights.bin"), time.Now(), time.Unix(1, 0)))
	publish(t, s, content(2, 10))
	assert.Equal(t, []string{"+v2"}, take(t, s, f, 1))
	assertFiles(t, f.Dir, map[string][]byte{".shardcast-follow": nil, "v2": nil})
}

func TestFollowWaitsWhenTheOffersVanishBeforeItsFirstChoice(t *testing.T) {
	origin := newSite(t, content(1, 10))
	// The quick server's list is empty from its second answer until it is asked to hold one, and
	// the slow server does not answer before that second one, so that the choice has to ask again.
	var mu sync.Mutex // guards answers and back
	answers, back := 0, false
	again := make(chan struct{})
	quick := sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "distribution.txt") {
			if r.Header.Get("Prefer") != "" {
				select {
				case <-again:
				case <-r.Context().Done():
				}
			}
			mu.Lock()
			defer mu.Unlock()
			back = back || r.Header.Get("Prefer") != ""
			if answers++; answers > 1 && !back {
				if answers == 2 {
					close(again)
				}
				w.Header().Set("ETag", `"empty"`)
				return
			}
		}
		origin.Config.Handler.ServeHTTP(w, r)
	}))
	slow := sitetest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-again:
		case <-r.Context().Done():
		}
	}))
	o := with(t, follow.Options{Dir: t.TempDir(), From: 1}, quick, slow)
	require.NoError(t, follow.Run(t.Context(), o, func(got follow.Delivery, err error) bool {
		assert.NoError(t, err)
		assert.Equal(t, shard.Version(1), got.Entry.Version)
		return false
	}))
}
