package wire

import (
	"net/netip"
	"slices"
	"strings"
)

// shared is the address space that a carrier's customers share (RFC 6598, section 7),
// which private networks use, too; siteLocal is deprecated (RFC 3879, section 4).
var (
	shared    = netip.MustParsePrefix("100.64.0.0/10")
	siteLocal = netip.MustParsePrefix("fec0::/10")
)

// IsPrivate reports whether addr belongs to a site's own network: RFC 1918, section 3, RFC
// 4193, section 3.1, RFC 6598, or RFC 3879. Addresses of loopback and of a link do not.
func IsPrivate(addr netip.Addr) bool {
	return addr.IsPrivate() || shared.Contains(addr) || siteLocal.Contains(addr)
}

// metadata are where clouds answer machines inside with their secrets: Azure, Oracle, Alibaba
// and AWS. Most clouds have theirs among the link-local ones.
var metadata = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192"),
	netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("fd00:ec2::254"),
}

// IsMetadata reports whether addr is a link's alone (RFC 3927, and RFC 4291, section 2.5.6),
// or one of a cloud's metadata: no node connects there because another one says so.
func IsMetadata(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return addr.IsLinkLocalUnicast() || slices.Contains(metadata, addr)
}

// HostOf returns the addresses that count as one host: an IPv4 address, or an IPv6 /64, as
// one site has many addresses (RFC 6177).
func HostOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, _ := addr.Prefix(bits) // fails for the zero address alone
	return prefix
}

// LocalAddress returns an address to listen on, host:port: addr, or its port of loopback if it
// has no host.
func LocalAddress(addr string) string {
	if port := strings.TrimPrefix(addr, ":"); !strings.Contains(port, ":") {
		return "127.0.0.1:" + port
	}
	return addr
}
