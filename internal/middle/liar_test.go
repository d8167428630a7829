package middle_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/middle"
	"github.com/shardcast/shardcast/internal/shard"
)

// bogus lists fifteen versions near the largest number, and another v1.
func bogus(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "v1: %064x\n", 1)
	for i := range 15 {
		fmt.Fprintf(w, "v%d: %064x\n", 999_999_999_999_999_985+i, i+2)
	}
}

func TestMiddleTakesUpNothingOnTheWordOfALiar(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]int{"the second of two": {1, 0}, "one of three": {0, 1, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := [][]byte{content(1, 10), content(2, 10)}
			liar := newSite(t, data...).spoilPath("/distribution.txt", bogus)
			sites := []*site{liar, newSite(t, data...), newSite(t, data...)}
			var urls []string
			for _, i := range order {
				urls = append(urls, sites[i].URL)
			}
			dir := t.TempDir()
			n := run(t, dir, urls...)
			n.log.await(t, "msg=fetched", "version=v2")
			n.log.await(t, "msg=fetched", "version=v1")
			liar.awaitRounds(t)
			n.assertServes(t, "v1", data[0])
			n.assertServes(t, "v2", data[1])
			assert.Equal(t, []string{"v1", "v2"}, n.versions(t))
			assert.Empty(t, liar.asked("/v9"))
			state, err := os.ReadFile(filepath.Join(dir, ".shardcast", "state.json"))
			require.NoError(t, err)
			assert.JSONEq(t, `{"last": 2}`, string(state))
			status, _ := n.get(t, "/readyz")
			assert.Equal(t, http.StatusOK, status)
		})
	}
}

func TestADrippingVersionHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	data := [][]byte{content(1, 3*shardSize), content(2, 3*shardSize)}
	s := newSite(t, data...).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasPrefix(r.URL.Path, "/v2/shard") {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", "1000")
		for r.Context().Err() == nil {
			_, _ = w.Write(data[1][:1])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(interval):
			}
		}
	})
	n := runBy(t, middle.Options{}, fetch.Options{Patience: 100 * time.Millisecond}, t.TempDir(), s.URL)
	n.log.await(t, "msg=arriving", "version=v2")
	n.log.await(t, "msg=fetched", "version=v1")
	status, reason := n.get(t, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, string(reason), "v2, the newest version that the upstreams list, does not get on")
	s.spoilWith(nil)
	s.CloseClientConnections()
	n.log.await(t, "msg=fetched", "version=v2")
}

// lying has the site serve the list of v1's files that change makes of the right one, and a
// manifest that describes it.
func (s *site) lying(t *testing.T, change func(list string) string) *site {
	t.Helper()
	dir := filepath.Join(s.store.Dir(), "v1")
	text, err := os.ReadFile(filepath.Join(dir, shard.FilesName))
	require.NoError(t, err)
	list := []byte(change(string(text)))
	file, err := os.Open(filepath.Join(dir, shard.ManifestName))
	require.NoError(t, err)
	defer file.Close()
	manifest, err := shard.ParseManifest(file)
	require.NoError(t, err)
	manifest.Files.Size, manifest.Files.Digest = int64(len(list)), sha256.Sum256(list)
	text, err = manifest.Encode()
	require.NoError(t, err)
	texts := map[string][]byte{"/v1/" + shard.FilesName: list, "/v1/" + shard.ManifestName: text}
	return s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if text, ok := texts[r.URL.Path]; ok {
			_, _ = w.Write(text)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestMiddleSetsAVersionAsideWhoseListOfFilesLies(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(from, "a"), content(1, 2*shardSize), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(from, "b"), content(2, 10), 0o600))
	for name, tc := range map[string]struct{ old, by, err string }{
		"a path that escapes":  {`"path":"b"`, `"path":"../b"`, `the path has the element \"..\"`},
		"an offset":            {`"offset":512,`, `"offset":513,`, `\"a\": offset 513 instead of 512`},
		"a size":               {`"size":10,`, `"size":9,`, `something else in the place of \"b\"`},
		"a name":               {`"path":"b"`, `"path":"c"`, `something else in the place of \"c\"`},
		"a length of the list": {"\n", "\n\n", "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar, honest := newSite(t), newSite(t)
			for _, s := range []*site{liar, honest} {
				_, err := s.origin.Broadcast(t.Context(), from)
				require.NoError(t, err)
			}
			liar.lying(t, func(list string) string { return strings.ReplaceAll(list, tc.old, tc.by) })
			n := run(t, t.TempDir(), liar.URL)
			n.log.await(t, "level=WARN", `msg="manifest not believed"`, "version=v1", "upstream="+liar.URL, tc.err)
			n.log.await(t, `msg="version not fetched"`, "version=v1")
			assert.Empty(t, n.versions(t))

			n = run(t, t.TempDir(), liar.URL, honest.URL)
			n.log.await(t, "msg=fetched", "version=v1")
			want, err := os.ReadFile(filepath.Join(honest.store.Dir(), "v1", shard.FilesName))
			require.NoError(t, err)
			_, got := n.get(t, "/v1/"+shard.FilesName)
			assert.Equal(t, string(want), string(got))
		})
	}
}
