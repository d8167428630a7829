package slots

import (
	"net/netip"
	"sync"

	"github.com/shardcast/shardcast/internal/conns"
)

const (
	// mostFollowers bounds the requests that follow shards at the same time, and mostOfHost those
	// of one host.
	mostFollowers = 256
	mostOfHost    = 64
)

// Followers bound the requests that follow the shards of a server as they come.
type Followers struct {
	mu    sync.Mutex // guards what follows
	all   int
	hosts map[netip.Prefix]int
}

// NewFollowers returns Followers without a request.
func NewFollowers() *Followers { return &Followers{hosts: make(map[netip.Prefix]int)} }

// Enter counts one more request, until leave, and reports whether there may be one.
func (f *Followers) Enter(r Reader) (leave func(), ok bool) {
	host := conns.HostOf(r.Remote)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= mostFollowers || f.hosts[host] >= mostOfHost {
		return nil, false
	}
	f.all++
	f.hosts[host]++
	return func() { f.leave(host) }, true
}

func (f *Followers) leave(host netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.hosts[host]--; f.hosts[host] == 0 {
		delete(f.hosts, host)
	}
}
