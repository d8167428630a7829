package fetch

import (
	"context"
	"net"
	"net/netip"
)

// A System replaces the machine under a pool. Nil functions are the machine's.
type System struct {
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Draw    func() float64
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewOn returns a Pool on s.
func NewOn(s System, opts Options) (*Pool, error) {
	sys := realSystem()
	if s.Resolve != nil {
		sys.resolve = s.Resolve
	}
	if s.Draw != nil {
		sys.draw = s.Draw
	}
	sys.dial = s.Dial
	return newPool(opts, sys)
}

// Neighbours returns the number of peers that swap shards with the pool.
func (p *Pool) Neighbours() int { return len(p.swarm.Neighbours()) }
