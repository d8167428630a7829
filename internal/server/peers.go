package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/credential"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// peers is the endpoint of the members of the server's swarm.
type peers struct{ members *swarm.Members }

// answer answers with some of the members, and makes the asking node one of them if it
// states its address. Scripts of other sites may not read the answer, and cannot join for
// the visitors of their pages: that would take a preflight, which does not allow the field.
func (p peers) answer(w http.ResponseWriter, r *http.Request, _ target) error {
	header := w.Header()
	keepFromSites(header)
	header.Set("Cache-Control", noStore)
	var asker netip.AddrPort
	key, _ := swarm.ParseKey(r.Header.Get(wire.PeerKeyHeader))
	if ticket, public := p.members.Ticket(key); ticket != "" {
		header.Set(wire.TicketHeader, ticket)
		header.Set(wire.TicketKeyHeader, public)
	}
	if claims, ok := r.Header[wire.PeerHeader]; ok {
		remote, _ := netip.ParseAddrPort(r.RemoteAddr) // or none, for another kind of socket
		var standing swarm.Standing
		asker, standing = p.members.Join(remote.Addr(), strings.Join(claims, ","), key)
		if standing != swarm.Reader {
			header.Set(wire.PeerHeader, string(standing))
		}
	}
	serveText(w, r, plainText, swarm.EncodePeers(p.members.Peers(asker)))
	return nil
}

// errNoServer means that the program at an address is no server of ours.
var errNoServer = errors.New("no server of shardcast answers there: /healthz is not ok")

// Reach returns nil if a server of ours answers at the address of a peer, and has its key, or
// why not. It connects to that address and no other, asks for /healthz, reads at most 20 KiB, and takes as long as
// ctx lets it.
func Reach(ctx context.Context, p swarm.Peer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL().JoinPath(wire.HealthName).String(), http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{
		// One connection, by no proxy, and to no other address.
		Transport: &http.Transport{
			TLSClientConfig:   credential.Pinned(p.Key, nil),
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: conns.MaxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(wire.Healthy))+1))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || string(text) != wire.Healthy {
		return errNoServer
	}
	return nil
}
