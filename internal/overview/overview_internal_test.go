package overview

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
	"github.com/shardcast/shardcast/internal/store"
)

func TestThePageShowsTheNetworkAloneOfAPublicClient(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3": "10.1.2.3", "172.16.0.1": "172.16.0.1", "192.168.1.7": "192.168.1.7", "127.0.0.1": "127.0.0.1",
		"169.254.1.1": "169.254.1.1", "100.64.0.9": "100.64.0.9", "::1": "::1",
		"fd00::7": "fd00::7", "fe80::1": "fe80::1",
		"203.0.113.77": "203.0.113.0/24", "100.128.0.1": "100.128.0.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
	} {
		assert.Equal(t, want, publicName(netip.MustParseAddr(address)))
	}
	assert.Equal(t, "unknown", publicName(netip.Addr{}))
}

// ready is why a server is not ready that is.
func ready() error { return nil }

// origin returns the overview of an origin, and the number of its looks.
func origin(t *testing.T) (*Overview, *atomic.Int64) {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	var looks atomic.Int64
	return New(Options{
		Role: "origin", Catalog: catalog.New(st, nil), Metrics: metrics.New("origin", ""), Unready: ready,
		Upstreams: func() []status.Upstream { looks.Add(1); return nil },
	}), &looks
}

func TestManyRequestsShareOneLookASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, looks := origin(t)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				got, err := o.Look(t.Context())
				assert.NotEmpty(t, got.Page, err)
			})
		}
		all.Wait()
		assert.EqualValues(t, 1, looks.Load())
		time.Sleep(lookEvery - time.Millisecond)
		_, err := o.Look(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, looks.Load())
		time.Sleep(time.Millisecond)
		_, err = o.Look(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 2, looks.Load())
	})
}

func TestALongRestFollowsALongLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, looks := origin(t)
		o.opts.Upstreams = func() []status.Upstream { looks.Add(1); time.Sleep(time.Second); return nil }
		for range 4 {
			_, err := o.Look(t.Context())
			require.NoError(t, err)
			time.Sleep(9 * time.Second)
		}
		assert.EqualValues(t, 2, looks.Load(), "of 29 s")
	})
}

func TestARequestThatEndsDoesNotWaitForALook(t *testing.T) {
	o, _ := origin(t)
	o.turn <- struct{}{} // a look that does not end
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := o.Look(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestThroughputIsRecordedWhileTheServerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := origin(t)
		ctx, cancel := context.WithCancel(t.Context())
		go o.Follow(ctx)
		synctest.Wait()
		request := o.opts.Metrics.Begin(metrics.Shard)
		one := o.readers.begin("10.0.0.1:99", "", 7)
		time.Sleep(time.Second) // so that no byte is sent at a mark
		for range 3 {
			time.Sleep(status.SampleEvery)
			request.Sent(5000)
			one.Sent(5000)
			synctest.Wait()
		}
		time.Sleep(status.SampleEvery)
		synctest.Wait()
		var sent []int64
		var s status.Status
		o.count(time.Now(), &s)
		for _, sample := range s.Throughput.Samples {
			sent = append(sent, sample.Sent)
		}
		assert.Equal(t, []int64{0, 1000, 1000, 1000}, sent)
		downloads, more := o.readers.downloads(time.Now())
		require.Len(t, downloads, 1)
		assert.Zero(t, more)
		assert.EqualValues(t, 15_000, downloads[0].Sent)
		assert.EqualValues(t, 5000/6, downloads[0].Speed, "over the last six seconds")
		one.End()
		time.Sleep(readerIdle)
		downloads, _ = o.readers.downloads(time.Now())
		assert.Len(t, downloads, 1, "the client may ask for the next shard")
		time.Sleep(time.Millisecond)
		downloads, _ = o.readers.downloads(time.Now())
		assert.Empty(t, downloads)
		cancel()
		synctest.Wait()
	})
}

func TestOfManyReadersTheFastestAreShown(t *testing.T) {
	o, _ := origin(t)
	for i := range maxReaders + 100 {
		one := o.readers.begin(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), "", 7)
		one.Sent(int64(i))
		if i >= maxReaders {
			assert.Nil(t, one, "a client beyond the bound has no row")
		}
		one.End()
	}
	o.readers.begin("10.0.0.0:2", "", 7).Sent(1 << 20)
	shown, more := o.readers.downloads(time.Now())
	assert.Len(t, shown, status.MaxDownloads)
	assert.Equal(t, maxReaders-status.MaxDownloads, more)
	assert.Equal(t, "10.0.0.0", shown[0].Client)
	assert.Equal(t, 1, shown[0].Transfers)
	o.readers.mark(time.Now().Add(readerIdle + time.Second))
	assert.Len(t, o.readers.each, 1)
	assert.NotNil(t, o.readers.begin("10.0.77.77:1", "", 7), "a row is free again")
	assert.NotNil(t, o.readers.begin("[::ffff:10.0.0.0]:3", "", 7))
	assert.Len(t, o.readers.each, 2, "an address is the same in either form")
}

func TestTheSpeedOfAReaderIsThatOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := origin(t)
		o.readers.mark(time.Now())
		time.Sleep(time.Second)
		one := o.readers.begin("10.0.0.1:99", "", 7)
		speed := func() int64 {
			shown, _ := o.readers.downloads(time.Now())
			return shown[0].Speed
		}
		one.Sent(1000)
		assert.EqualValues(t, 1000, speed(), "the first bytes are no speed")
		time.Sleep(2 * time.Second)
		assert.EqualValues(t, 500, speed())
		time.Sleep(2 * time.Second)
		o.readers.mark(time.Now())
		assert.EqualValues(t, 250, speed(), "since the beginning")
		time.Sleep(5 * time.Second)
		o.readers.mark(time.Now())
		time.Sleep(time.Second)
		assert.EqualValues(t, 0, speed(), "the first seconds are forgotten")
		time.Sleep(4 * time.Second)
		one.Sent(1000)
		assert.EqualValues(t, 100, speed())
	})
}

func TestSamplesAreOfTheLastTenMinutes(t *testing.T) {
	o, _ := origin(t)
	begun := time.Now()
	// recorded returns the samples that a look finds so much later.
	recorded := func(later time.Duration) []status.Sample {
		var s status.Status
		o.count(begun.Add(later), &s)
		return s.Throughput.Samples
	}
	assert.Equal(t, []status.Sample{}, recorded(0), "a list in JSON")
	for i := range 200 {
		o.mark(begun.Add(time.Duration(i+1) * status.SampleEvery))
	}
	const end = 200 * status.SampleEvery
	all := recorded(end)
	require.Len(t, all, status.MaxSamples)
	for i, s := range all {
		assert.Equal(t, begun.Add(time.Duration(i+81)*status.SampleEvery).UTC(), s.Time)
		assert.Nil(t, s.Received, "an origin receives no shards")
	}
	assert.Len(t, recorded(end+5*time.Minute), 60, "older samples are left out, also when nothing marks")
	assert.Empty(t, recorded(end+time.Hour))
	for i := range 1000 {
		o.mark(begun.Add(end + time.Duration(i)*time.Millisecond))
	}
	assert.Len(t, recorded(end+time.Second), status.MaxSamples, "however often it is marked")
}

func TestAMiddlesSamplesAddUpAllThatComesIn(t *testing.T) {
	o, _ := origin(t)
	m := metrics.New("middle", "")
	m.Follow([]string{"http://a", "http://b"}, func() []metrics.Upstream { return make([]metrics.Upstream, 2) })
	o.opts.Metrics = m
	o = New(o.opts)
	begun := time.Now()
	o.mark(begun.Add(status.SampleEvery))
	m.Received(0, 1000)
	m.Received(1, 500)
	m.Received(-1, 100)
	o.mark(begun.Add(2 * status.SampleEvery))
	var s status.Status
	o.count(begun.Add(2*status.SampleEvery), &s)
	require.Len(t, s.Throughput.Samples, 2)
	assert.EqualValues(t, 0, *s.Throughput.Samples[0].Received)
	assert.EqualValues(t, 320, *s.Throughput.Samples[1].Received)
}

func TestAnArrivingVersionIsExpectedByItsOwnSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.TempDir(), store.Middle)
		require.NoError(t, err)
		t.Cleanup(func() { _ = st.Close() })
		board := relay.NewBoard()
		o := New(Options{Role: "middle", Catalog: catalog.New(st, board), Unready: ready})
		m := shard.Manifest{Size: 1000, ShardSize: 1000, Digest: shard.Digest{7}, Shards: make([]shard.Digest, 1)}
		first, second := board.Begin(distfile.Entry{Version: 1, Digest: m.Digest}, m, 1, nil),
			board.Begin(distfile.Entry{Version: 2, Digest: m.Digest}, m, 1, nil)
		expected := func() [2]status.Version {
			s, err := o.all(time.Now())
			require.NoError(t, err)
			return [2]status.Version{s.Versions[1], s.Versions[0]}
		}
		for _, v := range expected() {
			assert.Nil(t, v.Speed, "not known yet")
		}
		begun := time.Now()
		o.mark(begun)
		first.Shard(1).Begin()
		second.Shard(1).Begin()
		for i := range int64(8) {
			time.Sleep(status.SampleEvery)
			first.Shard(1).Wrote(disk.Range{From: 100 * i, To: 100 * (i + 1)})
			second.Shard(1).Wrote(disk.Range{From: 10 * i, To: 10 * (i + 1)})
			o.mark(time.Now())
		}
		got := expected()
		assert.EqualValues(t, 20, *got[0].Speed)
		assert.Equal(t, begun.Add(50*time.Second).UTC(), got[0].Arrival)
		assert.EqualValues(t, 2, *got[1].Speed)
		for range arrivalMarks {
			time.Sleep(status.SampleEvery)
			o.mark(time.Now())
		}
		got = expected()
		assert.Zero(t, *got[0].Speed, "its last bytes are forgotten")
		assert.Zero(t, got[0].Arrival)
	})
}

func TestContradictionsOnTheDiskAreBounded(t *testing.T) {
	v := heldStatus(distfile.Entry{Version: 1, Count: 2}, shard.Manifest{}, []int{1, 2, 2, 5})
	assert.Equal(t, 2, v.ShardCount)
	assert.Equal(t, status.Here, v.State, "surplus files do no harm")
	v = heldStatus(distfile.Entry{Version: 1, Count: 1 << 40}, shard.Manifest{}, []int{1})
	assert.Equal(t, shard.MaxShards, v.ShardCount, "a bound on memory")
	assert.Equal(t, status.Damaged, v.State)
}
