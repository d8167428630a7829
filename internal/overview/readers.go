package overview

import (
	"cmp"
	"maps"
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
	// maxReaders bounds the readers in memory. The page leaves out those beyond it.
	maxReaders = 4096

	// readerIdle is how long a reader stays on the page after its last shard: most ask for
	// the next one soon.
	readerIdle = 5 * time.Second

	// shortest bounds the time over which a speed is computed: an operating system takes
	// the first bytes for a new client at once, however slowly that client reads.
	shortest = time.Second
)

// readers are the clients that receive shards. A nil one knows none.
type readers struct {
	mu           sync.Mutex // guards what follows
	each         map[readerKey]*Reader
	before, last time.Time // of the last two marks
}

type readerKey struct {
	client  netip.Addr // zero if it is unknown
	name    string     // of its token, or empty
	version shard.Version
}

// A Reader is one client that receives shards of one version. A nil one is allowed, and counts
// nothing.
type Reader struct {
	all   *readers
	since time.Time
	bytes atomic.Int64

	// The mu of all guards these.
	transfers    int
	ended        time.Time // the last transfer
	before, last int64     // bytes at the last two marks
}

// begin notes that remote, with a token of that name, receives a shard of a version. It returns nil beyond maxReaders.
func (r *readers) begin(remote, name string, version shard.Version) *Reader {
	if r == nil {
		return nil
	}
	from, _ := netip.ParseAddrPort(remote)
	key := readerKey{from.Addr().Unmap().WithZone(""), name, version}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.each[key]
	if !ok {
		if len(r.each) >= maxReaders {
			forgetIdle(r.each, now)
		}
		if len(r.each) >= maxReaders {
			return nil
		}
		one = &Reader{all: r, since: now}
		r.each[key] = one
	}
	one.transfers++
	return one
}

// Sent counts bytes to the reader.
func (r *Reader) Sent(bytes int64) {
	if r != nil {
		r.bytes.Add(bytes)
	}
}

// End notes the end of one transfer.
func (r *Reader) End() {
	if r == nil {
		return
	}
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.transfers--
	r.ended = time.Now()
}

// forgetIdle removes idle readers from each.
func forgetIdle(each map[readerKey]*Reader, now time.Time) {
	maps.DeleteFunc(each, func(_ readerKey, one *Reader) bool {
		return one.transfers == 0 && now.Sub(one.ended) > readerIdle
	})
}

// mark notes the bytes of each Reader, every [status.SampleEvery].
func (r *readers) mark(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	forgetIdle(r.each, now)
	r.before, r.last = r.last, now
	for _, one := range r.each {
		one.before, one.last = one.last, one.bytes.Load()
	}
}

// downloads returns the readers, the fastest first, and the number of those beyond
// [status.MaxDownloads].
func (r *readers) downloads(now time.Time) (shown []status.Download, more int) {
	r.mu.Lock()
	forgetIdle(r.each, now)
	all := make([]status.Download, 0, len(r.each))
	for key, one := range r.each {
		bytes, age := one.bytes.Load(), now.Sub(one.since)
		all = append(all, status.Download{
			Client: publicName(key.client), Reader: key.name, Version: key.version.String(),
			Transfers: one.transfers, Sent: bytes, Since: one.since.UTC(),
			Speed: speed(bytes-one.before, min(age, now.Sub(r.before))),
		})
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b status.Download) int {
		return cmp.Or(
			cmp.Compare(b.Speed, a.Speed), a.Since.Compare(b.Since),
			cmp.Compare(a.Client, b.Client), cmp.Compare(a.Reader, b.Reader), cmp.Compare(a.Version, b.Version),
		)
	})
	shown = all[:min(len(all), status.MaxDownloads)]
	return shown, len(all) - len(shown)
}

// speed returns bytes per second.
func speed(bytes int64, over time.Duration) int64 {
	return int64(float64(bytes) / max(over, shortest).Seconds())
}

// publicName returns a client's address in a private network, and the network alone of a
// public address, which is a person's.
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
