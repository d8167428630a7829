package metrics_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/metrics"
)

// text returns a scrape.
func text(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	got, err := m.Text()
	require.NoError(t, err)
	return string(got)
}

// full returns metrics of a middle with two upstreams, each with a value.
func full(t *testing.T) *metrics.Metrics {
	t.Helper()
	m := metrics.New("middle", "v1.2.3")
	m.Follow([]string{"http://a:8000", "http://\xff"}, func() []metrics.Upstream {
		return []metrics.Upstream{{Throughput: 5e6, Success: 0.5, Up: true, Newest: 9}, {}}
	})
	m.Measure(func() metrics.Server {
		return metrics.Server{
			Versions: 2, Newest: 8, Shards: 20, Arriving: 1, Missing: 3,
			Used: 1 << 20, Free: 1 << 30, Ready: true, Peers: 5, CertificateExpires: time.Unix(2e9, 0),
			Release: &metrics.Signed{Seq: 7, Issued: time.Unix(1e9, 0), Expires: time.Unix(2e9, 0)},
		}
	})
	return m
}

func TestNilMetricsCountNothing(t *testing.T) {
	var m *metrics.Metrics
	m.Follow([]string{"a"}, nil)
	m.Measure(nil)
	m.Received(7, 1)
	m.Wasted(1)
	m.Failed(7, metrics.Wrong)
	m.Verified(1)
	m.Mistaken()
	m.Fetched(time.Second)
	m.Completed(time.Second)
	r := m.Begin(metrics.Shard)
	r.Sent(5)
	r.End(200)
	assert.Zero(t, testing.AllocsPerRun(10, func() { m.Begin(metrics.Shard).End(200) }))
}

func TestTheTextHasEachCount(t *testing.T) {
	m := full(t)
	for range 2 {
		r := m.Begin(metrics.Shard)
		r.Sent(500)
		r.End(206)
	}
	m.Begin(metrics.Distribution)
	m.Received(0, 1000)
	m.Failed(1, metrics.Wrong)
	m.Wasted(10)
	m.Verified(3)
	m.Mistaken()
	m.Fetched(200 * time.Millisecond)
	m.Completed(3 * time.Second)
	got := text(t, m)
	for _, line := range []string{
		`shardcast_build_info{role="middle",version="v1.2.3"} 1`,
		`shardcast_http_requests_total{code="206",kind="shard"} 2`,
		`shardcast_http_requests_total{code="503",kind="shard"} 0`,
		`shardcast_http_requests_in_flight{kind="distribution"} 1`,
		`shardcast_http_requests_in_flight{kind="shard"} 0`,
		`shardcast_sent_bytes_total{kind="shard"} 1000`,
		`shardcast_received_bytes_total{upstream="http://a:8000"} 1000`,
		`shardcast_upstream_failures_total{reason="wrong",upstream="http://_"} 1`,
		`shardcast_wasted_bytes_total 10`,
		`shardcast_shards_verified_total 3`,
		`shardcast_shards_failed_total 1`,
		`shardcast_shard_fetch_duration_seconds_sum 0.2`,
		`shardcast_version_complete_duration_seconds_bucket{le="3.90625"} 1`,
		`shardcast_versions_held 2`,
		`shardcast_newest_version 8`,
		`shardcast_shards_held 20`,
		`shardcast_versions_arriving 1`,
		`shardcast_shards_missing 3`,
		`shardcast_disk_used_bytes 1.048576e+06`,
		`shardcast_ready 1`,
		`shardcast_upstream_up{upstream="http://a:8000"} 1`,
		`shardcast_upstream_up{upstream="http://_"} 0`,
		`shardcast_upstream_newest_version{upstream="http://a:8000"} 9`,
		`shardcast_upstream_success_ratio{upstream="http://a:8000"} 0.5`,
		`shardcast_upstream_throughput_bytes_per_second{upstream="http://a:8000"} 5e+06`,
	} {
		assert.Contains(t, got, "\n"+line+"\n")
	}
	assert.Contains(t, got, "\ngo_goroutines ")
	assert.Contains(t, got, "\nprocess_start_time_seconds ")
}

func TestUnknownValuesAreLeftOut(t *testing.T) {
	m := metrics.New("origin", "")
	assert.NotContains(t, text(t, m), "shardcast_disk", "before Measure")
	m.Measure(func() metrics.Server { return metrics.Server{Free: -1} })
	got := text(t, m)
	assert.Contains(t, got, "\nshardcast_disk_used_bytes 0\n")
	assert.Contains(t, got, "\nshardcast_ready 0\n")
	assert.NotContains(t, got, "shardcast_disk_free_bytes")
	assert.NotContains(t, got, "shardcast_received_bytes_total", "an origin does not fetch")
}

func TestNamesAndUnitsFollowPrometheus(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(text(t, full(t)))).Lint()
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func TestManyGoroutinesCount(t *testing.T) {
	m := full(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				r := m.Begin(metrics.Shard)
				r.Sent(1)
				r.End(200)
				m.Received(1, 1)
			}
			_, err := m.Text()
			assert.NoError(t, err)
		})
	}
	all.Wait()
	assert.Contains(t, text(t, m), `shardcast_sent_bytes_total{kind="shard"} 800`+"\n")
}

func TestTrafficReturnsTheCounters(t *testing.T) {
	var none *metrics.Metrics
	assert.Zero(t, none.Traffic())
	assert.Zero(t, metrics.New("origin", "").Traffic(), "an origin does not fetch")
	m := full(t)
	m.Begin(metrics.Shard).Sent(500)
	m.Begin(metrics.Manifest).Sent(7)
	m.Received(1, 1000)
	m.Received(1, 1)
	m.Saved(70)
	m.Saved(-1) // a delta that was of no use
	assert.Equal(t, metrics.Traffic{Received: []int64{0, 1001}, Sent: 500, Saved: 70}, m.Traffic())
}

func ExampleMetrics() {
	m := metrics.New("origin", "v1.0.0")
	r := m.Begin(metrics.Manifest)
	r.Sent(1234)
	r.End(200)
	text, _ := m.Text()
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte(`shardcast_sent_bytes_total{kind="manifest"}`)) {
			fmt.Print(string(line))
		}
	}
	// Output: shardcast_sent_bytes_total{kind="manifest"} 1234
}
