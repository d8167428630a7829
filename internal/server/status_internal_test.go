package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
	"github.com/shardcast/shardcast/internal/store"
)

func TestOfAClientOnlyItsNetworkIsShownUnlessThatIsPrivate(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3": "10.1.2.3", "172.16.0.1": "172.16.0.1", "192.168.1.7": "192.168.1.7", "127.0.0.1": "127.0.0.1",
		"169.254.1.1": "169.254.1.1", "100.64.0.9": "100.64.0.9", "::1": "::1", "fd00::7": "fd00::7", "fe80::1": "fe80::1",
		"203.0.113.77": "203.0.113.0/24", "100.128.0.1": "100.128.0.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
	} {
		assert.Equal(t, want, publicName(netip.MustParseAddr(address)))
	}
	assert.Equal(t, "unknown", publicName(netip.Addr{}))
}

// page returns the status page of an origin, and how often it has looked.
func page(t *testing.T) (*statusPage, *atomic.Int64) {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	var looks atomic.Int64
	h := newHandler(Options{
		Store: st, Metrics: metrics.New("origin", ""), Logger: slog.New(slog.DiscardHandler),
		Status: &Status{Upstreams: func() []status.Upstream { looks.Add(1); return nil }},
	})
	return h.status, &looks
}

func TestHoweverManyAskThereIsOneLookASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, looks := page(t)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				got, err := p.look(t.Context())
				assert.NotEmpty(t, got.page, err)
			})
		}
		all.Wait()
		assert.EqualValues(t, 1, looks.Load())
		time.Sleep(statusEvery - time.Millisecond)
		_, err := p.look(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, looks.Load())
		time.Sleep(time.Millisecond)
		_, err = p.look(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 2, looks.Load())
	})
}

func TestAfterALongLookThereIsALongRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, looks := page(t)
		p.opts.Upstreams = func() []status.Upstream { looks.Add(1); time.Sleep(time.Second); return nil }
		for range 4 {
			_, err := p.look(t.Context())
			require.NoError(t, err)
			time.Sleep(9 * time.Second)
		}
		assert.EqualValues(t, 2, looks.Load(), "of 29 s")
	})
}

func TestWhoLeavesDoesNotWaitForALook(t *testing.T) {
	p, _ := page(t)
	p.turn <- struct{}{} // somebody looks, and does not end
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.look(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestThroughputIsRecordedWhileTheServerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := page(t)
		ctx, cancel := context.WithCancel(t.Context())
		go p.follow(ctx)
		synctest.Wait()
		request := p.handler.metrics.Begin(metrics.Shard)
		one := p.read("10.0.0.1:99", 7)
		time.Sleep(time.Second) // or it would be sent something just when it is looked at
		for range 3 {
			time.Sleep(status.SampleEvery)
			request.Sent(5000)
			one.sent(5000)
			synctest.Wait()
		}
		time.Sleep(status.SampleEvery)
		synctest.Wait()
		var sent []int64
		for _, s := range p.history.Samples(time.Now()) {
			sent = append(sent, s.Sent)
		}
		assert.Equal(t, []int64{0, 1000, 1000, 1000}, sent)
		downloads, more := p.readers.downloads(time.Now())
		require.Len(t, downloads, 1)
		assert.Zero(t, more)
		assert.EqualValues(t, 15_000, downloads[0].Sent)
		assert.EqualValues(t, 5000/6, downloads[0].Speed, "of the last six seconds")
		one.end()
		time.Sleep(readerIdle)
		downloads, _ = p.readers.downloads(time.Now())
		assert.Len(t, downloads, 1, "it may be about to ask for the next one")
		time.Sleep(time.Millisecond)
		downloads, _ = p.readers.downloads(time.Now())
		assert.Empty(t, downloads)
		cancel()
		synctest.Wait()
	})
}

func TestOfManyReadersTheFastestAreShown(t *testing.T) {
	p, _ := page(t)
	for i := range maxReaders + 100 {
		one := p.read(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), 7)
		one.sent(int64(i))
		if i >= maxReaders {
			assert.Nil(t, one, "who comes beyond the bound is not known")
		}
		one.end()
	}
	p.read("10.0.0.0:2", 7).sent(1 << 20)
	shown, more := p.readers.downloads(time.Now())
	assert.Len(t, shown, status.MaxDownloads)
	assert.Equal(t, maxReaders-status.MaxDownloads, more)
	assert.Equal(t, "10.0.0.0", shown[0].Client)
	assert.Equal(t, 1, shown[0].Transfers)
	p.readers.mark(time.Now().Add(readerIdle + time.Second))
	assert.Len(t, p.readers.each, 1)
	assert.NotNil(t, p.read("10.0.77.77:1", 7), "there is room again")
	assert.Equal(t, shard.Version(7), p.read("[::ffff:10.0.0.0]:3", 7).reads.version)
	assert.Len(t, p.readers.each, 2, "an address is the same in either form")
}

func TestFilesOfAVersionAreLookedAtUntilTheyHaveSettled(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	p := newHandler(Options{Store: st, Logger: slog.New(slog.DiscardHandler), Status: &Status{}}).status
	e := distfile.Entry{Version: 1, Digest: shard.Digest{1}, Count: 2}
	made := time.Now()
	// change makes or removes a shard, without the directory looking different.
	change := func(number int, there bool) {
		name := filepath.Join(dir, "v1", shard.FileName(number))
		if there {
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
			require.NoError(t, os.WriteFile(name, nil, 0o600))
		} else {
			require.NoError(t, os.Remove(name))
		}
		require.NoError(t, os.Chtimes(filepath.Dir(name), made, made))
	}
	change(1, true)
	change(2, true)
	begun := time.Now()
	// here looks so much later, and returns how many shards there are.
	here := func(later time.Duration) int {
		v := p.heldVersion(begun.Add(later), e)
		p.held = map[shard.Version]heldVersion{1: v}
		return v.Here
	}
	assert.Equal(t, 2, here(0))
	change(2, false)
	assert.Equal(t, 1, here(settleTime), "two changes within a tick of the file system's clock look like one")
	change(1, false)
	assert.Equal(t, 1, here(settleTime+1), "what has looked the same for long is not read again")
	require.NoError(t, os.Chtimes(filepath.Join(dir, "v1"), begun, begun.Add(time.Hour)))
	assert.Equal(t, 0, here(settleTime+2), "what looks different is")
}

func TestWhatContradictsItselfOnTheDiskIsShownAsFarAsItGoes(t *testing.T) {
	v := heldStatus(distfile.Entry{Version: 1, Count: 2}, shard.Manifest{}, []int{1, 2, 2, 5})
	assert.Equal(t, 2, v.ShardCount)
	assert.Equal(t, status.Here, v.State, "more files than it is said to have do no harm")
	v = heldStatus(distfile.Entry{Version: 1, Count: 1 << 40}, shard.Manifest{}, []int{1})
	assert.Equal(t, shard.MaxShards, v.ShardCount, "which is less than would need much memory")
	assert.Equal(t, status.Damaged, v.State)
}
