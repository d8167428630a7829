package fetch_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

func TestNewChecksItsOptions(t *testing.T) {
	here := []*url.URL{{Scheme: "http", Host: "host:8000"}}
	for name, opts := range map[string]fetch.Options{
		"no upstream":           {},
		"negative timeout":      {Upstreams: here, Timeout: -1},
		"negative attempts":     {Upstreams: here, Attempts: -1},
		"negative fast ones":    {Upstreams: here, FastAttempts: -1},
		"negative fast wait":    {Upstreams: here, FastWait: -1},
		"negative slow wait":    {Upstreams: here, SlowWait: -1},
		"negative shards":       {Upstreams: here, Concurrency: -1},
		"two negative out of 6": {Upstreams: here, Attempts: -1, Timeout: -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fetch.New(opts)
			assert.Error(t, err)
		})
	}
}

func TestNewCountsRepeatedUpstreamsOnce(t *testing.T) {
	s := newSite(t, content(1, 10))
	bare, err := fetch.ParseAddress(s.Listener.Addr().String(), 1)
	require.NoError(t, err)
	full, err := fetch.ParseAddress(s.URL, 1)
	require.NoError(t, err)
	slash, err := fetch.ParseAddress(s.URL+"/", 1)
	require.NoError(t, err)
	for name, upstreams := range map[string][]*url.URL{
		"as it was":              {full, full},
		"with a slash":           {full, slash},
		"with and without http:": {bare, full},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.asked("/distribution.txt")
			pool := newPool(t, fetch.Options{Upstreams: upstreams})
			require.NoError(t, pool.Refresh(t.Context(), fetch.All))
			assert.Equal(t, 1, s.asked("/distribution.txt")-before)
		})
	}
}

func TestPoolTakesPathsBelowAnUpstreamsURL(t *testing.T) {
	s := newSite(t)
	s.spoilPath("/models/a/distribution.txt", text("v1: "+digestOf(content(1, 10)).String()+"\n"))
	u, err := fetch.ParseAddress(s.URL+"/models/a", 1)
	require.NoError(t, err)
	pool := newPool(t, fetch.Options{Upstreams: []*url.URL{u}})
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	assert.Len(t, pool.Offers(), 1)
}
