package fetch_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
)

func TestBytesAndFailuresAreCountedByUpstream(t *testing.T) {
	data := content(1, 10*shardSize)
	good := newSite(t, data)
	bad := newSite(t, data).spoilPath("/v1/shard_003.bin", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, shardSize))
	})
	down := "http://127.0.0.1:1"
	m := metrics.New("middle", "")
	opts := fetch.Options{FastWait: time.Millisecond, SlowWait: time.Millisecond, Concurrency: 1, Metrics: m}
	for _, server := range []string{bad.URL, good.URL, down} {
		u, err := url.Parse(server)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	pool, err := fetch.New(opts)
	require.NoError(t, err)
	defer pool.Close()
	for bad.asked("/v1/shard_003.bin") == 0 { // servers are drawn
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
		require.NoError(t, fetchTo(t.Context(), pool, pool.Offers()[0], new(memory)))
	}
	text, err := m.Text()
	require.NoError(t, err)
	for series, want := range map[string]string{
		`shardcast_received_bytes_total{upstream="` + good.URL + `"}`:                   `[1-9].*`,
		`shardcast_received_bytes_total{upstream="` + bad.URL + `"}`:                    `[1-9].*`,
		`shardcast_received_bytes_total{upstream="` + down + `"}`:                       `0`,
		`shardcast_upstream_failures_total{reason="wrong",upstream="` + bad.URL + `"}`:  `1`,
		`shardcast_upstream_failures_total{reason="wrong",upstream="` + good.URL + `"}`: `0`,
		`shardcast_upstream_failures_total{reason="down",upstream="` + down + `"}`:      `[1-9].*`,
		`shardcast_upstream_up{upstream="` + good.URL + `"}`:                            `1`,
		`shardcast_upstream_up{upstream="` + down + `"}`:                                `0`,
		`shardcast_upstream_newest_version{upstream="` + good.URL + `"}`:                `1`,
		`shardcast_upstream_success_ratio{upstream="` + good.URL + `"}`:                 `1`,
		`shardcast_upstream_throughput_bytes_per_second{upstream="` + good.URL + `"}`:   `[1-9].*`,
		`shardcast_shards_verified_total`:                                               `[1-9]\d*0`,
		`shardcast_shards_failed_total`:                                                 `1`,
		`shardcast_wasted_bytes_total`:                                                  `1000`,
		`shardcast_shard_fetch_duration_seconds_count`:                                  `[1-9]\d*0`,
	} {
		assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(series)+" "+want+"$", string(text))
	}
}

func TestStandingsKeepFailuresThatAreOver(t *testing.T) {
	good, flaky := newSite(t, content(1, shardSize)), newSite(t, content(1, shardSize))
	var addresses []*url.URL
	for _, server := range []string{
		good.URL, "http://user:secret@" + strings.TrimPrefix(flaky.URL, "http://"),
		"http://127.0.0.1:1",
	} {
		u, err := url.Parse(server)
		require.NoError(t, err)
		addresses = append(addresses, u)
	}
	pool, err := fetch.New(fetch.Options{Upstreams: addresses})
	require.NoError(t, err)
	defer pool.Close()
	for _, s := range pool.Standings() {
		assert.Equal(t, fetch.Standing{URL: s.URL, State: fetch.Idle, Success: 1}, s, "nothing is known")
	}

	flaky.spoilPath("/distribution.txt", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	got := pool.Standings()
	require.Len(t, got, 3)
	assert.Equal(t, good.URL, got[0].URL)
	assert.Equal(t, fetch.Idle, got[0].State)
	assert.True(t, got[0].Up)
	assert.EqualValues(t, 1, got[0].Newest)
	require.NoError(t, got[0].Err)
	assert.Contains(t, got[1].URL, "http://user:xxxxx@")
	for _, s := range got[1:] {
		assert.Equal(t, fetch.Failing, s.State)
		assert.False(t, s.Up)
		require.Error(t, s.Err)
		assert.NotContains(t, s.Err.Error(), "secret")
		assert.WithinDuration(t, time.Now(), s.At, time.Minute)
	}

	before := got[1]
	flaky.spoilWith(nil)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	after := pool.Standings()[1]
	assert.Equal(t, fetch.Idle, after.State)
	assert.True(t, after.Up)
	assert.Equal(t, before.Err, after.Err, "the last error stays")
	assert.Equal(t, before.At, after.At)
}

func TestTheStandingOfAnUpstreamShowsWrongBytes(t *testing.T) {
	bad := newSite(t, content(1, shardSize))
	bad.spoilPath("/v1/shard_001.bin", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, shardSize))
	})
	u, err := url.Parse(bad.URL)
	require.NoError(t, err)
	pool, err := fetch.New(fetch.Options{
		Upstreams: []*url.URL{u}, FastWait: time.Millisecond,
		SlowWait: time.Millisecond,
	})
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	require.ErrorIs(t, fetchTo(t.Context(), pool, pool.Offers()[0], new(memory)), fetch.ErrIntegrity)
	got := pool.Standings()[0]
	require.ErrorContains(t, got.Err, "digest")
	assert.True(t, got.Settled, "it has been tried")
}
