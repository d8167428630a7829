package server

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// maxReaders bounds how many are known. Those that come beyond it are not shown.
	maxReaders = 4096

	// readerIdle is how long one is known after its last shard: between two of them it is
	// no less there.
	readerIdle = 5 * time.Second
)

// readers are who is sent shards.
type readers struct {
	mu   sync.Mutex // guards what follows
	each map[reads]*reader
}

// reads is who is sent what.
type reads struct {
	client  netip.Addr // zero if it cannot be told
	version shard.Version
}

// reader is one client of one version. Its methods may be called for nil, which is for one
// that is not known.
type reader struct {
	all   *readers
	reads reads
	since time.Time
	bytes atomic.Int64

	// What follows changes, under the mu of all.
	transfers int
	last      time.Time // when the last of them ended
	meter     status.Meter
}

// begin notes that a shard of a version is being sent to remote. It returns nil if too many
// are known.
func (r *readers) begin(remote string, version shard.Version) *reader {
	from, _ := netip.ParseAddrPort(remote)
	key := reads{from.Addr().Unmap().WithZone(""), version}
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.each[key]
	if !ok {
		now := time.Now()
		if len(r.each) >= maxReaders {
			r.forget(now)
		}
		if len(r.each) >= maxReaders {
			return nil
		}
		one = &reader{all: r, reads: key, since: now, meter: status.NewMeter(now, 0)}
		r.each[key] = one
	}
	one.transfers++
	return one
}

// sent counts bytes that it has been sent.
func (r *reader) sent(bytes int64) {
	if r != nil {
		r.bytes.Add(bytes)
	}
}

// end notes that one shard is not being sent any more.
func (r *reader) end() {
	if r == nil {
		return
	}
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.transfers--
	r.last = time.Now()
}

// forget drops those who have gone. The caller holds mu.
func (r *readers) forget(now time.Time) {
	for key, one := range r.each {
		if one.transfers == 0 && now.Sub(one.last) > readerIdle {
			delete(r.each, key)
		}
	}
}

// mark has their meters look, every [status.SampleEvery].
func (r *readers) mark(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	for _, one := range r.each {
		one.meter.Mark(now, one.bytes.Load())
	}
}

// downloads returns who is sent shards, the fastest first, and how many more there are
// than can be shown.
func (r *readers) downloads(now time.Time) (shown []status.Download, more int) {
	r.mu.Lock()
	r.forget(now)
	all := make([]status.Download, 0, len(r.each))
	for key, one := range r.each {
		bytes := one.bytes.Load()
		all = append(all, status.Download{
			Client: publicName(key.client), Version: key.version.String(), Transfers: one.transfers,
			Sent: bytes, Since: one.since.UTC(), Speed: one.meter.Speed(now, bytes),
		})
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b status.Download) int {
		return cmp.Or(cmp.Compare(b.Speed, a.Speed), a.Since.Compare(b.Since), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Version, b.Version))
	})
	shown = all[:min(len(all), status.MaxDownloads)]
	return shown, len(all) - len(shown)
}

// publicName is what anybody may know of a client: its address in a private network, and
// otherwise, as an address is a person's, only the network that it is in.
func publicName(client netip.Addr) string {
	switch {
	case !client.IsValid():
		return "unknown"
	case wire.IsPrivate(client), client.IsLoopback(), client.IsLinkLocalUnicast():
		return client.String()
	}
	bits := 48
	if client.Is4() {
		bits = 24
	}
	network, _ := client.Prefix(bits)
	return network.String()
}
