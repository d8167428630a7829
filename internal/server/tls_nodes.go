package server

import (
	"crypto/tls"
	"net"
	"net/http"

	"github.com/shardcast/shardcast/internal/credential"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// Nodes are the peers of a node whose upstream speaks TLS. They find it at an address of its
// own, know it by its key, and read there what their upstream lets them read, and no more.
type Nodes struct {
	// Listener is where they connect.
	Listener net.Listener

	// Certificate has the key that the upstream lists.
	Certificate tls.Certificate

	// Tickets say which nodes may read.
	Tickets *swarm.Tickets
}

// over returns a listener of TLS connections over those of ln.
func (n *Nodes) over(ln net.Listener) net.Listener {
	return tls.NewListener(ln, &tls.Config{
		Certificates: []tls.Certificate{n.Certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{http1},
		SessionTicketsDisabled: true,
		// No authority has signed it: its key is what the ticket is for. The upstream shows none
		// when it tries the node.
		ClientAuth: tls.RequestClientCert,
	})
}

// ticketed admits nodes with a ticket, and all to healthz.
type ticketed struct {
	next    http.Handler
	tickets *swarm.Tickets
}

func (h ticketed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if targetOf(r).kind != kindHealth && !h.admits(r) {
		w.Header().Set("Cache-Control", noStore)
		http.Error(w, "show a ticket of the upstream for the key of your certificate", http.StatusForbidden)
		return
	}
	h.next.ServeHTTP(w, r)
}

func (h ticketed) admits(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && h.tickets.Check(
		r.Header.Get(wire.TicketHeader), swarm.Key(credential.KeyDigest(r.TLS.PeerCertificates[0]))) == nil
}
