package peering

import (
	"crypto/tls"
	"slices"

	"github.com/shardcast/shardcast/internal/credential"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// A Node is what peers know this node by over TLS, and by which it knows who may read from it.
type Node struct {
	Certificate tls.Certificate
	Key         swarm.Key // of the certificate
	Tickets     *swarm.Tickets
}

// NewNode returns a Node with a key of its own, which trusts no upstream yet.
func NewNode() (*Node, error) {
	certificate, err := credential.NewIdentity()
	if err != nil {
		return nil, err
	}
	key := swarm.Key(credential.KeyDigest(certificate.Leaf))
	return &Node{Certificate: certificate, Key: key, Tickets: swarm.NewTickets()}, nil
}

// isSecure reports whether the swarm of an upstream is one over TLS.
func isSecure(upstream *remote.Server) bool { return upstream.URL.Scheme == "https" }

// admit notes the ticket that an upstream has given this node with an answer, and the key that
// signs tickets.
func (w *Swarm) admit(upstream *remote.Server, answer *remote.Body) {
	signer, ok := swarm.ParseKey(answer.Header.Get(wire.TicketKeyHeader))
	if !ok || !isSecure(upstream) {
		return
	}
	w.opts.Node.Tickets.Trust(upstream.Name, signer, answer.Date())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tickets[upstream] = answer.Header.Get(wire.TicketHeader)
}

// ticket returns the ticket to show to a peer: that of an upstream which names the peer.
func (w *Swarm) ticket(p *peer) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for upstream, ticket := range w.tickets {
		if slices.Contains(w.named[upstream], p) {
			return ticket
		}
	}
	return ""
}

// show adds to a header what a peer has to see.
func (w *Swarm) show(p *peer, header map[string]string) map[string]string {
	if p.key == (swarm.Key{}) {
		return header
	}
	if header == nil {
		header = make(map[string]string)
	}
	header[wire.TicketHeader] = w.ticket(p)
	return header
}
