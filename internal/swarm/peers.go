package swarm

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/wire"
)

// maxPeersSize in bytes bounds what is read of an upstream's list.
const maxPeersSize = 16 << 10

// EncodePeers returns peers as an upstream lists them, one URL a line.
func EncodePeers(peers []netip.AddrPort) []byte {
	var text []byte
	for _, at := range peers {
		text = fmt.Appendf(text, "http://%s\n", at)
	}
	return text
}

// ParsePeers reads an upstream's list and returns the peers that a node may connect to:
// http:// URLs of an IP address and a port, of the first 16 lines and 16 KiB. The list is
// not believed, or an upstream, and who has joined there, could have the node ask servers
// that only it can reach. An address within allow may be connected to, unless it is
// nobody's; any other one must be one that the upstream, which is at that address, could
// have itself, see mayBeAt. What is something else, or has no end, is left out.
func ParsePeers(r io.Reader, upstream netip.Addr, allow []netip.Prefix) []*url.URL {
	// Half a list is as good as a whole one, but half a line is another address.
	text, _ := io.ReadAll(io.LimitReader(r, maxPeersSize))
	var peers []*url.URL
	var known []netip.AddrPort
	for range MaxPeers {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			break
		}
		text = rest
		at, ok := parsePeer(strings.TrimSuffix(string(line), "\r"))
		if !ok || slices.Contains(known, at) || isNobody(at.Addr()) {
			continue
		}
		if !contains(allow, at.Addr()) && !mayBeAt(at.Addr(), upstream.Unmap()) {
			continue
		}
		known = append(known, at)
		peers = append(peers, &url.URL{Scheme: "http", Host: at.String()})
	}
	return peers
}

// parsePeer reads a line. What follows the scheme is an address and a port and nothing
// else, so there is no room for a name, a path or a password.
func parsePeer(line string) (netip.AddrPort, bool) {
	host, ok := strings.CutPrefix(line, "http://")
	if !ok {
		return netip.AddrPort{}, false
	}
	at, err := netip.ParseAddrPort(host)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return netip.AddrPort{}, false
	}
	// ::ffff:127.0.0.1 is 127.0.0.1 (RFC 4291, section 2.5.5.2).
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), true
}

// mayBeAt reports whether a peer may be at addr, by where the upstream is. Loopback is
// this machine, so only an upstream that is here too may name it; link-local is a link
// (and the metadata of a cloud), and private is a site.
func mayBeAt(addr, upstream netip.Addr) bool {
	switch {
	case addr.IsLoopback(): // RFC 1122, section 3.2.1.3, and RFC 4291, section 2.5.3
		return upstream.IsLoopback()
	case addr.IsLinkLocalUnicast(): // RFC 3927, and RFC 4291, section 2.5.6
		return upstream.IsLinkLocalUnicast()
	case wire.IsPrivate(addr):
		return wire.IsPrivate(upstream) || upstream.IsLoopback()
	default:
		return !isWrapped(addr)
	}
}

// isNobody reports whether addr is no single host's: unspecified or of this network
// (RFC 1122, section 3.2.1.3, and RFC 4291, section 2.5.2), multicast (RFC 5771 and RFC
// 4291, section 2.7), reserved, or the broadcast address (RFC 1112, section 4, and RFC
// 919, section 7).
func isNobody(addr netip.Addr) bool {
	if addr.IsUnspecified() || addr.IsMulticast() {
		return true
	}
	return addr.Is4() && (addr.As4()[0] == 0 || addr.As4()[0] >= 240)
}

// isWrapped reports whether addr stands for an IPv4 address that a gateway finds in it,
// which may be any: RFC 6052, section 2.1, and RFC 8215, section 5 (NAT64), RFC 3056,
// section 2 (6to4), RFC 4380, section 2.6 (Teredo), and RFC 4291, section 2.5.5.1
// (deprecated).
func isWrapped(addr netip.Addr) bool {
	return contains([]netip.Prefix{
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
		netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("::/96"),
	}, addr)
}
