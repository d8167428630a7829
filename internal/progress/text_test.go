package progress

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast"
)

func TestSummaryHasTotalsAndALinePerServer(t *testing.T) {
	p := halfway()
	p.Upstreams[3].Err = ""
	p.Elapsed = 8345 * time.Millisecond
	version := shardcast.Version{Name: "v7", Size: p.Size, Shards: 22}
	assert.Equal(t, `v7: 1.1 GB in 8.3 s, 129 MB/s, 22 shards; resumed 110 MB, wasted 1.2 MB
  70%  350 MB http://192.168.1.100:8000
  29%  149 MB http://192.168.1.101:8000
   0%  1.2 MB https://relay.example/cast: shard 3: wrong digest
   0%     0 B http://192.168.1.103:8000: failing
`, summarize(shardcast.Result{Version: version, Progress: p}))
}

func TestSummaryLeavesOutZeros(t *testing.T) {
	version := shardcast.Version{Name: "v1", Size: 5, Shards: 1}
	p := shardcast.Progress{Elapsed: 61 * time.Second}
	assert.Equal(t, "v1: 5 B in 1m1s, 0 B/s, 1 shard\n", summarize(shardcast.Result{Version: version, Progress: p}))
	p.Wasted = 7
	assert.Equal(
		t,
		"v1: 5 B in 1m1s, 0 B/s, 1 shard; wasted 7 B\n",
		summarize(shardcast.Result{Version: version, Progress: p}),
	)
}

func TestLeftIsTheTimeForTheRest(t *testing.T) {
	for name, tc := range map[string]struct {
		size, done int64
		speed      float64
		want       string
	}{
		"seconds":             {100, 50, 10, "5s"},
		"a part of one":       {100, 99, 10, "1s"},
		"hours":               {7_384_000, 0, 1000, "2h3m4s"},
		"nothing":             {100, 100, 10, "0s"},
		"standing still":      {100, 50, 0, "--"},
		"nothing, and still":  {100, 100, 0, "--"},
		"more than there was": {100, 121, 10, "0s"},
		"days":                {math.MaxInt64, 0, 1, "--"},
		"an unknown size":     {-1, 0, 10, "--"},
		"no number":           {100, 50, math.NaN(), "--"},
		"negative":            {100, 50, -1, "--"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, left(&shardcast.Progress{Size: tc.size, Done: tc.done, Speed: tc.speed}))
		})
	}
}

func TestPercentIs100OnlyForTheWhole(t *testing.T) {
	for name, tc := range map[string]struct{ part, whole, want int64 }{
		"all":              {7, 7, 100},
		"nearly all":       {999, 1000, 99},
		"more than all":    {8, 7, 100},
		"nothing":          {0, 7, 0},
		"less":             {-1, 7, 0},
		"of nothing":       {7, 0, 0},
		"of the unknown":   {7, -1, 0},
		"the largest":      {math.MaxInt64, math.MaxInt64, 100},
		"half the largest": {math.MaxInt64 / 2, math.MaxInt64, 50},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, percent(tc.part, tc.whole)) })
	}
}

func TestThroughputIsAlwaysANumber(t *testing.T) {
	for name, tc := range map[string]struct {
		speed float64
		want  string
	}{
		"some": {129_400_000, "129 MB/s"}, "none": {0, "0 B/s"}, "negative": {-3, "0 B/s"}, "NaN": {
			math.NaN(),
			"0 B/s",
		},
		"infinite": {math.Inf(1), "0 B/s"}, "too large": {1e19, "0 B/s"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, throughput(tc.speed)) })
	}
}

func TestSummaryHasTheTrafficWithPeers(t *testing.T) {
	r := shardcast.Result{Version: shardcast.Version{Name: "v1", Size: 4_000_000, Shards: 4}}
	r.Progress = shardcast.Progress{
		Size:     4_000_000,
		Done:     4_000_000,
		Received: 4_000_000,
		Peers:    3_000_000,
		Given:    5_000_000,
		Elapsed:  time.Second,
		Speed:    4e6,
		Upstreams: []shardcast.Upstream{
			{
				URL:      "http://a:8000",
				State:    "idle",
				Received: 1_000_000,
			},
			{URL: "http://b:8001", Peer: true, State: "idle", Received: 3_000_000},
		},
	}
	text := summarize(r)
	assert.Contains(t, text, "; 3.0 MB (75%) from peers, 5.0 MB sent to peers\n")
	assert.Contains(t, text, " 75%  3.0 MB http://b:8001\n")
}

func TestTrafficToPeersIsShownWhereThereIsRoom(t *testing.T) {
	p := shardcast.Progress{Size: 4_000_000, Done: 1_000_000, Speed: 1e6, Given: 5_000_000}
	assert.Contains(t, fileTail(&p, 100), " 5.0 MB given ")
	assert.NotContains(t, fileTail(&p, 60), "given")
	p.Given = 0
	assert.NotContains(t, fileTail(&p, 100), "given")
}
