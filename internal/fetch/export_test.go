package fetch

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// SetDraw makes p forget its ranking and draw by draw.
func (p *Pool) SetDraw(draw func() float64) {
	p.rank = NewRanking(len(p.upstreams), time.Now, draw)
}

// SetDial makes p connect by dial, and by no proxy.
func (p *Pool) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	transport, _ := p.client.Transport.(*http.Transport)
	transport.DialContext, transport.Proxy = dial, nil
}

// SetResolver makes p find addresses by resolve.
func (p *Pool) SetResolver(resolve func(ctx context.Context, host string) ([]netip.Addr, error)) {
	p.resolve = resolve
}

// Neighbours returns how many nodes there are to swap shards with.
func (p *Pool) Neighbours() int {
	peers, _ := p.neighbours()
	return len(peers)
}
