package wire

import (
	"net/netip"
	"slices"
	"strings"
)

// Names are the names by which a server may be asked. A name of the public Domain Name
// System that is none of them may be that of a web page which has let it lead to this
// server, so as to read here what the visitor of the page can read (DNS rebinding).
type Names struct {
	// Allowed are the names that were configured. "*" stands for all.
	Allowed []string

	// Machine returns the names of this machine. It is called for a name that nothing else
	// allows. Nil is for none.
	Machine func() []string
}

// localDomains are the ends of names that the public Domain Name System never delegates
// (RFC 6761, RFC 6762, RFC 8375, ICANN's resolution 2024.07.29.06 for internal), or that have
// no such domain at all.
var localDomains = []string{
	".localhost", ".local", ".localdomain", ".internal", ".home.arpa", ".lan", ".svc", ".test",
}

// Have reports whether the field Host of a request is a name of the server: an IP address,
// localhost, a name without dots, one of a local network, of this machine, or an allowed
// one. An empty field, as of HTTP/1.0, is none that a browser sends.
func (n Names) Have(host string) bool {
	name := hostName(host)
	if name == "" || !strings.Contains(name, ".") || slices.Contains(n.Allowed, "*") {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	is := func(other string) bool { return strings.EqualFold(strings.TrimSuffix(other, "."), name) }
	if slices.ContainsFunc(localDomains, func(end string) bool { return strings.HasSuffix(name, end) }) ||
		slices.ContainsFunc(n.Allowed, is) {
		return true
	}
	return n.Machine != nil && slices.ContainsFunc(n.Machine(), is)
}

// hostName returns the name in a field Host, in lower case, without a port, brackets and the
// dot of the root.
func hostName(host string) string {
	if rest, ok := strings.CutPrefix(host, "["); ok {
		name, _, _ := strings.Cut(rest, "]")
		return name
	}
	if name, port, ok := strings.Cut(host, ":"); ok && !strings.Contains(port, ":") {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
