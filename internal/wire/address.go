package wire

import "net/netip"

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
