package fetch

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPort is that of a server's address that names none.
const DefaultPort = 8000

// ParseAddress reads the address of a server as users write it: a host name or
// an IP address, with ":port" or without, which means defaultPort; IPv6
// addresses with a port stand in brackets; or an http:// or https:// URL, whose
// path is put before every name and whose port, if it has none, is that of its
// scheme. With dns+http:// in place of http://, or dns+https://, it stands for all servers that the
// host has addresses of, as they change.
func ParseAddress(s string, defaultPort int) (*url.URL, error) {
	if strings.Contains(s, "://") {
		return parseURL(s)
	}
	host, port := s, strconv.Itoa(defaultPort)
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(s, "]") {
		host = strings.TrimSuffix(inner, "]")
	} else if !isIPv6(s) && strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return nil, badAddress(s, "want host, host:port or a URL")
		}
	}
	if !isIPv6(host) && !isHostName(host) {
		return nil, badAddress(s, "the host is not a name or an IP address")
	}
	if strings.HasPrefix(s, "[") && !isIPv6(host) {
		return nil, badAddress(s, "only an IPv6 address stands in brackets")
	}
	if !isPort(port) {
		return nil, badAddress(s, "the port is not a number from 1 to 65535")
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}, nil
}

// HasPort reports whether an address that [ParseAddress] takes says which port it means.
func HasPort(s string) bool {
	one, err := ParseAddress(s, 1)
	two, other := ParseAddress(s, 2)
	return err == nil && other == nil && one.Host == two.Host
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, badAddress(s, "it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "dns+http" && u.Scheme != "dns+https":
		return nil, badAddress(s, "the scheme is not http or https, nor dns+ before one")
	case !isIPv6(u.Hostname()) && !isHostName(u.Hostname()):
		return nil, badAddress(s, "the host is not a name or an IP address")
	case strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		return nil, badAddress(s, "the port is not a number from 1 to 65535")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, badAddress(s, "a server's URL ends with its path")
	}
	u = u.JoinPath()
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// badAddress leaves out what may be a password: the text before an @, behind a colon what is no
// port, because a password with a comma or a space in it is cut there, and a query or fragment.
func badAddress(s, why string) error {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i+1] + "..."
	}
	if i := strings.LastIndex(s, "@"); i >= 0 {
		s = "..." + s[i:]
	} else if i := strings.LastIndex(s, ":"); i >= 0 && strings.Trim(s[i+1:], "0123456789/") != "" &&
		!strings.HasPrefix(s[i:], "://") {
		s = s[:i+1] + "..."
	}
	return fmt.Errorf("%.80q is not the address of a server: %s", s, why)
}

func isIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6() && (addr.Zone() == "" || isHostName(addr.Zone()))
}

// isHostName reports whether s can be a host's name, an IPv4 address or a zone:
// letters, digits, hyphens, dots, and underscores, which some networks use.
func isHostName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 253
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
