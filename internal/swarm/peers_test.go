package swarm_test

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// hosts returns the addresses and ports of peers.
func hosts(peers []swarm.Peer) []string {
	var all []string
	for _, p := range peers {
		all = append(all, p.At.String())
	}
	return all
}

// parse returns the hosts that ParsePeers reads from text.
func parse(text, upstream string, allow ...string) []string {
	var addr netip.Addr
	if upstream != "" {
		addr = netip.MustParseAddr(upstream)
	}
	var prefixes []netip.Prefix
	for _, p := range allow {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	return hosts(swarm.ParsePeers(strings.NewReader(text), addr, false, prefixes))
}

// far is an upstream on the internet.
const far = "203.0.113.1"

func TestParsePeersReadsTheOutputOfEncodePeers(t *testing.T) {
	text := swarm.EncodePeers([]swarm.Peer{
		{At: netip.MustParseAddrPort("192.0.2.1:8001")}, {At: netip.MustParseAddrPort("[2001:db8::1]:65535")},
	})
	assert.Equal(t, "http://192.0.2.1:8001\nhttp://[2001:db8::1]:65535\n", string(text))
	peers := swarm.ParsePeers(strings.NewReader(string(text)), netip.MustParseAddr(far), false, nil)
	require.Len(t, peers, 2)
	assert.Equal(t, "http://192.0.2.1:8001", peers[0].URL().String())
	assert.Equal(t, "http://[2001:db8::1]:65535", peers[1].URL().String())
	assert.Empty(t, swarm.EncodePeers(nil))
}

func TestParsePeersTakesWholeLinesOfURLs(t *testing.T) {
	good := "http://192.0.2.1:1\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"empty": {"", nil},
		"one":   {good, []string{"192.0.2.1:1"}},
		"CR LF": {
			"http://192.0.2.1:1\r\n" + "http://192.0.2.1:2\r\n",
			[]string{"192.0.2.1:1", "192.0.2.1:2"},
		},
		"no end":                 {good + "http://192.0.2.1:80", []string{"192.0.2.1:1"}},
		"twice":                  {good + "http://[::ffff:192.0.2.1]:1\n" + good, []string{"192.0.2.1:1"}},
		"blank lines":            {"\n\n" + good + "\n", []string{"192.0.2.1:1"}},
		"16 lines and no more":   {strings.Repeat("\n", 15) + good + "http://192.0.2.1:2\n", []string{"192.0.2.1:1"}},
		"https":                  {"https://192.0.2.1:1\n" + good, []string{"192.0.2.1:1"}},
		"another scheme":         {"file://192.0.2.1:1\n", nil},
		"upper case":             {"HTTP://192.0.2.1:1\n", nil},
		"no scheme":              {"192.0.2.1:1\n", nil},
		"a name":                 {"http://localhost:1\n", nil},
		"no port":                {"http://192.0.2.1\n", nil},
		"an empty port":          {"http://192.0.2.1:\n", nil},
		"port 0":                 {"http://192.0.2.1:0\n", nil},
		"a port too high":        {"http://192.0.2.1:65536\n", nil},
		"a slash":                {"http://192.0.2.1:1/\n", nil},
		"a path":                 {"http://192.0.2.1:1/v1\n", nil},
		"a query":                {"http://192.0.2.1:1?a=b\n", nil},
		"a fragment":             {"http://192.0.2.1:1#a\n", nil},
		"a user":                 {"http://user@192.0.2.1:1\n", nil},
		"a password":             {"http://user:secret@192.0.2.1:1\n", nil},
		"a user that looks good": {"http://192.0.2.1:1@127.0.0.1:1\n", nil},
		"octal":                  {"http://0177.0.0.1:1\n", nil},
		"one number":             {"http://2130706433:1\n", nil},
		"hexadecimal":            {"http://0x7f.0.0.1:1\n", nil},
		"few numbers":            {"http://127.1:1\n", nil},
		"escaped":                {"http://%31%39%32.0.2.1:1\n", nil},
		"a zone":                 {"http://[2001:db8::1%25eth0]:1\nhttp://[2001:db8::1%eth0]:1\n", nil},
		"spaces":                 {" http://192.0.2.1:1\nhttp://192.0.2.1:1 \n", nil},
		"CR within":              {"http://192.0.2.1:1\rhttp://192.0.2.1:2\n", nil},
		"NUL":                    {"http://192.0.2.1:1\x00\n", nil},
		"a page":                 {"<html><body>Not Found</body></html>\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, parse(tc.text, far))
		})
	}
}

func TestPeersAreWhereTheUpstreamCouldBe(t *testing.T) {
	peers := map[string][]string{
		"public":   {"192.0.2.1", "8.8.8.8", "2001:db8::1", "2600::1", "100.63.255.255", "100.128.0.0", "172.32.0.1"},
		"loopback": {"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"},
		"metadata": {
			"169.254.169.254", "fe80::1", "::ffff:169.254.1.1", "168.63.129.16", "192.0.0.192", "100.100.100.200",
			"fd00:ec2::254",
		},
		"private": {
			"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00:ec2::253", "fc00::1", "100.64.0.1",
			"100.127.255.255", "fec0::1", "::ffff:10.0.0.1",
		},
		"wrapped": {"64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2001:0:7f00:1::1", "::7f00:1"},
		"no single host": {
			"0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "::ffff:0.0.0.0",
		},
	}
	for upstream, reached := range map[string][]string{
		"":                     {"public"},
		far:                    {"public"},
		"2001:db8::5":          {"public"},
		"10.9.9.9":             {"public", "private"},
		"fd00::5":              {"public", "private"},
		"100.64.5.5":           {"public", "private"},
		"::ffff:192.168.5.5":   {"public", "private"},
		"::ffff:100.64.5.5":    {"public", "private"},
		"169.254.5.5":          {"public"},
		"fe80::5%eth0":         {"public"},
		"127.0.0.1":            {"public", "private", "loopback"},
		"::1":                  {"public", "private", "loopback"},
		"::ffff:127.0.0.1":     {"public", "private", "loopback"},
		"64:ff9b::203.0.113.1": {"public"},
	} {
		for kind, addresses := range peers {
			t.Run(upstream+" "+kind, func(t *testing.T) {
				may := false
				for _, r := range reached {
					may = may || r == kind
				}
				for _, a := range addresses {
					at := netip.AddrPortFrom(netip.MustParseAddr(a), 8000)
					want := []string(nil)
					if may {
						want = []string{netip.AddrPortFrom(at.Addr().Unmap(), 8000).String()}
					}
					text := "http://" + at.String() + "\n"
					assert.Equal(t, want, parse(text, upstream), a)
					allowed := parse(text, upstream, "0.0.0.0/0", "::/0")
					if kind != "no single host" && kind != "metadata" {
						assert.Len(t, allowed, 1, "%s is allowed", a)
					} else {
						assert.Empty(t, allowed, "%s is allowed", a)
					}
				}
			})
		}
	}
}

func TestAllowIsForItsAddressesAlone(t *testing.T) {
	text := "http://10.0.0.1:1\nhttp://10.1.0.1:1\nhttp://127.0.0.1:1\n"
	assert.Equal(t, []string{"10.0.0.1:1"}, parse(text, far, "10.0.0.0/16"))
}

func TestParsePeersReadsSixteenKibibytes(t *testing.T) {
	good := "http://192.0.2.1:8001\n"
	padded := strings.Repeat("x", 16<<10-len(good)-1) + "\n" + good
	assert.Equal(t, []string{"192.0.2.1:8001"}, parse(padded, far))
	assert.Empty(t, parse("x"+padded, far), "port 8001 must not become 800")

	r := &endless{}
	assert.Empty(t, swarm.ParsePeers(r, netip.MustParseAddr(far), false, nil))
	assert.LessOrEqual(t, r.read, 16<<10+512)
}

// endless is a text of one line that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

func TestParsePeersTakesTheWholeLinesOfAnAnswerThatBreaksOff(t *testing.T) {
	text := strings.NewReader("http://192.0.2.1:1\nhttp://192.0.2.1:80")
	r := io.MultiReader(text, iotest.ErrReader(errors.New("broken")))
	assert.Equal(t, []string{"192.0.2.1:1"}, hosts(swarm.ParsePeers(r, netip.MustParseAddr(far), false, nil)))
}

func FuzzParsePeers(f *testing.F) {
	for _, text := range []string{
		"", "http://192.0.2.1:8001\n", "http://[2001:db8::1]:1\r\nhttp://10.0.0.1:2\n",
		"http://127.0.0.1:80\nhttp://[::1]:1\n", "http://[::ffff:127.0.0.1]:1\n",
		"http://user@192.0.2.1:1/v1?a#b\n", "http://[fe80::1%25eth0]:1\n", "http://0.0.0.0:1\nhttp://[ff02::1]:1\n",
		strings.Repeat("http://192.0.2.1:1\n", 20), "http://169.254.169.254:80\nhttp://[64:ff9b::a00:1]:80\n",
	} {
		f.Add(text, far)
		f.Add(text, "127.0.0.1")
		f.Add(text, "fd00::1")
	}
	key := strings.Repeat("0f", 32)
	f.Add("https://192.0.2.1:8001 "+key+"\nhttp://192.0.2.2:1\nhttps://192.0.2.3:1\nhttps://192.0.2.4:1 0f\n", far)
	f.Fuzz(func(t *testing.T, text, upstream string) {
		addr, _ := netip.ParseAddr(upstream)
		for _, secure := range []bool{false, true} {
			peers := swarm.ParsePeers(strings.NewReader(text), addr, secure, nil)
			require.LessOrEqual(t, len(peers), swarm.MaxPeers)
			var all []netip.AddrPort
			for _, p := range peers {
				a := p.At.Addr()
				require.Equal(t, secure, p.Key != swarm.Key{})
				require.NotZero(t, p.At.Port())
				require.False(t, a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "")
				require.False(t, a.IsLoopback() && !addr.Unmap().IsLoopback(), "%s of %s", a, addr)
				require.False(t, wire.IsMetadata(a), "%s of %s", a, addr)
				require.NotContains(t, all, p.At)
				all = append(all, p.At)
			}
			again := swarm.ParsePeers(strings.NewReader(string(swarm.EncodePeers(peers))), addr, secure, nil)
			require.Equal(t, peers, again)
		}
	})
}

// Nodes of before TLS skip lines that do not begin with http://, and a secure upstream is one
// of no others.
func TestParsePeersOfASecureUpstreamTakesKeysAlone(t *testing.T) {
	key := strings.Repeat("0f", 32)
	text := "https://192.0.2.1:1 " + key + "\nhttp://192.0.2.2:1\nhttps://192.0.2.3:1\nhttps://192.0.2.4:1 " +
		strings.ToUpper(key) + "\nhttp://192.0.2.5:1 " + key + "\nhttps://192.0.2.6:1 " + strings.Repeat("0", 64) + "\n"
	secure := swarm.ParsePeers(strings.NewReader(text), netip.MustParseAddr(far), true, nil)
	assert.Equal(t, []string{"192.0.2.1:1"}, hosts(secure))
	assert.Equal(t, key, secure[0].Key.String())
	assert.Equal(t, "https://192.0.2.1:1 "+key+"\n", string(swarm.EncodePeers(secure)))
	plain := swarm.ParsePeers(strings.NewReader(text), netip.MustParseAddr(far), false, nil)
	assert.Equal(t, []string{"192.0.2.2:1"}, hosts(plain))
}
