package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"

	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// peers answers with some of those who follow this server, and takes the asker for one
// of them if he says where he is. Pages of other sites are not told, and cannot join for
// whom they are shown to: that would take a preflight, which does not allow the field.
func (h *handler) peers(w http.ResponseWriter, r *http.Request) error {
	if h.members == nil {
		return fs.ErrNotExist
	}
	header := w.Header()
	header.Del("Access-Control-Allow-Origin")
	header.Set("Cache-Control", "no-store")
	var asker netip.AddrPort
	if claims, ok := r.Header[wire.PeerHeader]; ok {
		remote, _ := netip.ParseAddrPort(r.RemoteAddr) // or nowhere, for another kind of socket
		var standing swarm.Standing
		asker, standing = h.members.Join(remote.Addr(), strings.Join(claims, ","))
		if standing != swarm.Reader {
			header.Set(wire.PeerHeader, string(standing))
		}
	}
	serveText(w, r, plainText, swarm.EncodePeers(h.members.Peers(asker)))
	return nil
}

// errNoServer means that whoever answers is no server of ours.
var errNoServer = errors.New("what answers there is no server of shardcast: /healthz does not say ok")

// Reach returns whether a server of ours answers at an address, or why not. It connects
// to that address and no other, asks for /healthz, reads at most 20 KiB, and takes as
// long as ctx lets it.
func Reach(ctx context.Context, at netip.AddrPort) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%s", at, wire.HealthName), http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{
		// One connection, by no proxy, and to nowhere else.
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaderSize},
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
