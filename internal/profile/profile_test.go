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
