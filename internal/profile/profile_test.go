package profile_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/profile"
)

func TestProfilesAreServedOnLoopbackUntilTheEnd(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	url, err := profile.Serve(ctx, ":0")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(url, "http://127.0.0.1:"), url)
	get := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"goroutine?debug=1", http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		return resp.Body.Close()
	}
	require.NoError(t, get())
	_, err = profile.Serve(ctx, strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/debug/pprof/"))
	require.ErrorContains(t, err, "serve profiles")
	end()
	require.Eventually(t, func() bool { return get() != nil }, time.Minute, time.Millisecond)
}

// The name of a web page may lead here (DNS rebinding).
func TestAPageUnderAForeignNameReadsNoProfile(t *testing.T) {
	url, err := profile.Serve(t.Context(), "0")
	require.NoError(t, err)
	for name, want := range map[string]int{
		"127.0.0.1": http.StatusOK, "[::1]:6060": http.StatusOK, "localhost:6060": http.StatusOK,
		"gpu7": http.StatusOK, "gpu7.local": http.StatusOK,
		"page.example": http.StatusMisdirectedRequest, "page.example:6060": http.StatusMisdirectedRequest,
		"127.0.0.1.page.example": http.StatusMisdirectedRequest, "gpu7.example.com": http.StatusMisdirectedRequest,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"goroutine?debug=1", http.NoBody)
		require.NoError(t, err)
		req.Host = name
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, want, resp.StatusCode, name)
		assert.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"), name)
	}
}
