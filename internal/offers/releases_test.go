package offers_test

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	releasePath = "/" + release.FileName
	digest      = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	listed      = "v1: " + digest + "\n"
)

// ask asks all servers once.
func (s *sites) ask(t *testing.T) {
	t.Helper()
	require.NoError(t, s.Refresh(t.Context(), offers.All))
}

// requests returns the requests for a path, and forgets all.
func (s *sites) requests(path string) (hosts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, asked := range s.asked {
		if host, ok := strings.CutSuffix(asked, path); ok {
			hosts = append(hosts, host)
		}
	}
	s.asked = nil
	return hosts
}

func TestAReleaseIsAskedForWhenTheServerNamesAnotherOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		s.put("a", "/distribution.txt", listed)
		s.put("a", releasePath, "one")
		s.named = true
		s.ask(t)
		assert.Equal(t, []string{"a"}, s.requests(releasePath))
		s.ask(t)
		assert.Empty(t, s.requests(releasePath), "it is known")
		s.put("a", releasePath, "two")
		s.ask(t)
		assert.Equal(t, []string{"a"}, s.requests(releasePath))
		text, known := s.Release()
		assert.Equal(t, "two", string(text))
		assert.True(t, known)
		s.put("a", releasePath, "")
		s.ask(t)
		text, known = s.Release()
		assert.Nil(t, text)
		assert.True(t, known)
	})
}

func TestAPlainServerIsAskedForItsReleaseConditionally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		s.put("a", "/distribution.txt", listed)
		s.ask(t)
		assert.Equal(t, []string{"a"}, s.requests(releasePath))
		s.ask(t)
		assert.Empty(t, s.requests(releasePath), "that it has none is remembered")
		time.Sleep(time.Minute)
		s.ask(t)
		assert.Equal(t, []string{"a"}, s.requests(releasePath), "for a minute")
		s.put("a", releasePath, "one")
		s.put("a", "/distribution.txt", listed+"v2: "+digest+"\n")
		s.ask(t)
		assert.Equal(t, []string{"a"}, s.requests(releasePath), "it lists something new")
		s.ask(t)
		assert.Equal(t, []string{"a"}, s.requests(releasePath), "each time, as it has one")
		assert.Equal(t, 1, s.unchanged, "without the text when that is known")
		text, _ := s.Release()
		assert.Equal(t, "one", string(text))
	})
}

func TestAReleaseThatIsTooLongIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		s.put("a", "/distribution.txt", listed)
		s.put("a", releasePath, strings.Repeat("x", 4<<20+1))
		s.ask(t)
		text, known := s.Release()
		assert.Empty(t, text)
		assert.True(t, known)
	})
}

func TestWithoutAKeyTheReleaseOfMostUpstreamsIsRelayed(t *testing.T) {
	for name, tc := range map[string]struct {
		texts []string // of upstreams, empty for none
		down  string   // hosts
		want  string
	}{
		"all the same":              {texts: []string{"one", "one", "one"}, want: "one"},
		"most":                      {texts: []string{"two", "one", "one"}, want: "one"},
		"a tie":                     {texts: []string{"one", "two"}, want: "one"},
		"a tie of three":            {texts: []string{"three", "two", "one"}, want: "three"},
		"most have none":            {texts: []string{"one", "", ""}, want: ""},
		"a tie with none":           {texts: []string{"", "one"}, want: ""},
		"the one that answers":      {texts: []string{"one", "two", "two"}, down: "bc", want: "one"},
		"one of those that answer":  {texts: []string{"one", "two", "one"}, down: "a", want: "two"},
		"one that answers has none": {texts: []string{"one", "one", ""}, down: "ab", want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hosts := []string{"a", "b", "c"}[:len(tc.texts)]
				s := newSites(t, hosts...)
				s.named = true
				for i, text := range tc.texts {
					if strings.Contains(tc.down, hosts[i]) {
						continue // it answers with 404
					}
					s.put(hosts[i], "/distribution.txt", listed)
					if text != "" {
						s.put(hosts[i], releasePath, text)
					}
				}
				s.ask(t)
				text, known := s.Release()
				assert.True(t, known)
				assert.Equal(t, tc.want, string(text))
			})
		})
	}
}

func TestNoReleaseIsKnownWhileNoUpstreamAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a", "b")
		require.Error(t, s.Refresh(t.Context(), offers.All))
		_, known := s.Release()
		assert.False(t, known)
	})
}

// release answers as a server that names its release in the answer for its distribution, if it is
// one of ours, or by an ETag.
func (s *sites) release(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.files[r.Host][releasePath]
	if ok && s.named {
		w.Header().Set(wire.ReleaseHeader, shard.Digest(sha256.Sum256(text)).String())
	}
	if tag := `"` + shard.Digest(sha256.Sum256(text)).String() + `"`; ok && r.URL.Path == releasePath {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			s.unchanged++
		}
	}
}
