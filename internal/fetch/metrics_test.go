package fetch_test

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
)

func TestWhatComesAndWhatFailsIsCountedByUpstream(t *testing.T) {
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
	// Until the bad one was asked for what it has wrong.
	for range 50 {
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
		require.NoError(t, fetchTo(t.Context(), pool, pool.Offers()[0], new(memory)))
		if bad.asked("/v1/shard_003.bin") > 0 {
			break
		}
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
