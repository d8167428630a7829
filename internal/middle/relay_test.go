package middle_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/middle"
)

// releasing has s serve the text as its release, or none while that is empty.
func (s *site) releasing(text string) *atomic.Pointer[string] {
	var now atomic.Pointer[string]
	now.Store(&text)
	s.spoilPath("/release.txt", func(w http.ResponseWriter, r *http.Request) {
		if text := *now.Load(); text != "" {
			_, _ = w.Write([]byte(text))
			return
		}
		http.NotFound(w, r)
	})
	return &now
}

func TestAMiddleKeepsTheReleaseOfItsUpstreamsAsItCame(t *testing.T) {
	s := newSite(t, content(1, 1500))
	text, none := "shardcast release 9\nof a later time\r\n\xff", ""
	now := s.releasing(text)
	dir := t.TempDir()
	n := runBy(t, middle.Options{}, fetch.Options{Releases: true}, dir, s.URL)
	n.log.await(t, "msg=fetched", "version=v1")
	got, err := os.ReadFile(filepath.Join(dir, "release.txt"))
	require.NoError(t, err)
	assert.Equal(t, text, string(got))

	now.Store(&none)
	s.broadcast(t, content(2, 1500))
	n.log.await(t, "msg=fetched", "version=v2")
	_, err = os.Stat(filepath.Join(dir, "release.txt"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
