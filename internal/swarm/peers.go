package swarm

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/wire"
)

// MaxPeers is the number of peers that an upstream lists to a node at a time.
const MaxPeers = 16

// peersStay is the number of peers that a node keeps when its upstream has others.
const peersStay = MaxPeers * 3 / 4

// Stay returns the peers that a node keeps when its upstream lists a number of peers. If the
// upstream lists fewer than 16, these are all, and none of the others stays. Otherwise up to
// 12 stay, drawn at random: if all stayed, the first nodes would know one another, and no
// node the last. Stay changes the order of peers.
func Stay[P any](peers []P, listed int) []P {
	if listed < MaxPeers {
		return nil
	}
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return peers[:min(len(peers), peersStay)]
}

// maxPeersSize in bytes bounds the list that a node reads from an upstream.
const maxPeersSize = 16 << 10

// A Peer is a node as an upstream lists it.
type Peer struct {
	At  netip.AddrPort
	Key Key // zero for one that speaks plain HTTP
}

// URL returns where p is.
func (p Peer) URL() *url.URL {
	if p.Key == (Key{}) {
		return &url.URL{Scheme: "http", Host: p.At.String()}
	}
	return &url.URL{Scheme: "https", Host: p.At.String()}
}

// EncodePeers returns the list of peers that an upstream sends: on each line a URL and, over
// TLS, a space and the digest of the key.
func EncodePeers(peers []Peer) []byte {
	var text []byte
	for _, p := range peers {
		text = append(text, p.URL().String()...)
		if p.Key != (Key{}) {
			text = fmt.Appendf(text, " %s", p.Key)
		}
		text = append(text, '\n')
	}
	return text
}

// ParsePeers reads the list of an upstream and returns the peers that a node may connect to,
// from the first 16 lines and 16 KiB: http:// URLs of an IP address and a port or, of a secure
// upstream, which speaks TLS, https:// URLs with a key and no others. It skips malformed and
// unfinished lines. An upstream, and the nodes that joined there, must not
// have the node connect to servers that only the node can reach. So an address must be in
// allow, or one that the upstream, which is at that address, could have itself, see
// mayBeAt; and it must be that of one host.
func ParsePeers(r io.Reader, upstream netip.Addr, secure bool, allow []netip.Prefix) []Peer {
	// Half a list will do, but half a line is another address.
	text, _ := io.ReadAll(io.LimitReader(r, maxPeersSize))
	var peers []Peer
	for range MaxPeers {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			break
		}
		text = rest
		p, ok := parsePeer(strings.TrimSuffix(string(line), "\r"), secure)
		known := slices.ContainsFunc(peers, func(o Peer) bool { return o.At == p.At })
		if !ok || known || !isOneHost(p.At.Addr()) {
			continue
		}
		if contains(allow, p.At.Addr()) || mayBeAt(p.At.Addr(), upstream.Unmap()) {
			peers = append(peers, p)
		}
	}
	return peers
}

// parsePeer reads a line: the scheme, an address and a port, and of a secure one the key behind
// a space. It refuses names, paths and passwords.
func parsePeer(line string, secure bool) (p Peer, ok bool) {
	if secure {
		var digest string
		line, digest, _ = strings.Cut(line, " ")
		if p.Key, ok = ParseKey(digest); !ok {
			return Peer{}, false
		}
	}
	host, ok := strings.CutPrefix(line, p.URL().Scheme+"://")
	if !ok {
		return Peer{}, false
	}
	at, err := netip.ParseAddrPort(host)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return Peer{}, false
	}
	// ::ffff:127.0.0.1 is 127.0.0.1 (RFC 4291, section 2.5.5.2).
	p.At = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return p, true
}

// mayBeAt reports whether an upstream at its address may list a peer at addr. Loopback is
// this machine, so only an upstream on it may list such a peer; private is one site.
func mayBeAt(addr, upstream netip.Addr) bool {
	switch {
	case addr.IsLoopback(): // RFC 1122, section 3.2.1.3, and RFC 4291, section 2.5.3
		return upstream.IsLoopback()
	case wire.IsPrivate(addr):
		return wire.IsPrivate(upstream) || upstream.IsLoopback()
	default:
		return !isWrapped(addr)
	}
}

// isOneHost reports whether addr can be that of one host, and is none of a link or of the
// metadata of a cloud, see [wire.IsMetadata]. It must not be unspecified or of
// this network (RFC 1122, section 3.2.1.3, and RFC 4291, section 2.5.2), multicast (RFC 5771
// and RFC 4291, section 2.7), reserved, or the broadcast address (RFC 1112, section 4, and
// RFC 919, section 7).
func isOneHost(addr netip.Addr) bool {
	if addr.IsUnspecified() || addr.IsMulticast() || wire.IsMetadata(addr) {
		return false
	}
	return !addr.Is4() || addr.As4()[0] > 0 && addr.As4()[0] < 240
}

// isWrapped reports whether addr contains an IPv4 address, which may be any, and to which a
// gateway connects: RFC 6052, section 2.1, and RFC 8215, section 5 (NAT64), RFC 3056,
// section 2 (6to4), RFC 4380, section 2.6 (Teredo), and RFC 4291, section 2.5.5.1
// (deprecated).
func isWrapped(addr netip.Addr) bool {
	return contains([]netip.Prefix{
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
		netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("::/96"),
	}, addr)
}
