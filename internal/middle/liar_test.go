package middle_test

import (
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
