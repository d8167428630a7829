package remote

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParsePart(t *testing.T) {
	for text, want := range map[string]part{
		"bytes 5-9/20": {5, 10, 20},
		"Bytes 5-9/20": {5, 10, 20},
		"bytes 0-0/1":  {0, 1, 1},
		"bytes 5-9/*":  {5, 10, -1},
		"bytes 0-9223372036854775805/9223372036854775806": {0, 9223372036854775806, 9223372036854775806},
	} {
		p, err := parsePart(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, p, text)
	}
	for _, text := range []string{
		"", "bytes", "bytes ", "bytes */20", "bytes -9/20", "bytes 5-9", "bytes 5-9/", "bytes x-9/20", "bytes 5-9/x",
		"bytes -5-9/20", "bytes 99999999999999999999-9/20", "bytes 5-9/99999999999999999999", "kilobytes 5-9/20",
		"bytes=5-9/20", "bytes 5-9/20/20", "bytes  5-9/20", "bytes 5-/20", "bytes 9-5/20", "bytes 5-20/20",
		"bytes 5-+9/20", "bytes 0-9223372036854775807/*", "bytes 5-9/20, bytes 10-11/20",
	} {
		_, err := parsePart(text)
		require.ErrorContains(t, err, "cannot be read", text)
		assert.Less(t, len(err.Error()), 200)
	}
}

// FuzzContentRange holds that a part that is read is one: its bounds are inside the size, and
// it is written again as it was read.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{
		"bytes 5-9/20", "bytes 0-0/1", "bytes 5-9/*", "bytes */20", "bytes -9/20", "bytes 9-5/20", "",
		"bytes 0-9223372036854775806/9223372036854775807", "bytes 00-09/0020", "BYTES 1-2/3", "bytes 1-2/3, 4-5/6",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePart(text)
		if err != nil {
			return
		}
		require.True(t, 0 <= p.from && p.from < p.to && (p.size == -1 || p.to <= p.size), "%q: %+v", text, p)
		size := "*"
		if p.size >= 0 {
			size = strconv.FormatInt(p.size, 10)
		}
		again, err := parsePart(fmt.Sprintf("bytes %d-%d/%s", p.from, p.to-1, size))
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}

// The address of a proxy says nothing of where the server is.
func TestTheAddressOfAServerBehindAProxyIsNotKnown(t *testing.T) {
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer answers.Close()
	at, err := url.Parse(answers.URL)
	require.NoError(t, err)
	for _, proxied := range []bool{false, true} {
		c, server := New(Options{Timeout: time.Minute}), NewServer(at)
		if proxied {
			transport, _ := c.http.Transport.(*http.Transport)
			transport.Proxy = http.ProxyURL(at)
			server = NewServer(&url.URL{Scheme: "http", Host: "server.example"})
		}
		body, err := c.Get(t.Context(), server, Request{})
		require.NoError(t, err)
		require.NoError(t, body.Close())
		c.Close()
		if proxied {
			assert.Zero(t, body.Addr)
		} else {
			assert.Equal(t, netip.MustParseAddr("127.0.0.1"), body.Addr)
		}
	}
}

// A proxy leads out of the network that peers share, and knows no way back.
func TestPeersAreAskedWithoutTheProxy(t *testing.T) {
	asked := make(map[string]int)
	handler := func(name string) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked[name+" "+r.Host]++ })
	}
	proxy, node := httptest.NewServer(handler("proxy")), httptest.NewServer(handler("node"))
	defer proxy.Close()
	defer node.Close()
	at, err := url.Parse(node.URL)
	require.NoError(t, err)
	by, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	c := New(Options{Timeout: time.Minute})
	defer c.Close()
	transport, _ := c.http.Transport.(*http.Transport)
	transport.Proxy = http.ProxyURL(by) // as the environment says; it never does for loopback
	for _, s := range []*Server{NewServer(at), NewPeer(at)} {
		body, err := c.Get(t.Context(), s, Request{})
		require.NoError(t, err)
		require.NoError(t, body.Close())
	}
	assert.Equal(t, map[string]int{"proxy " + at.Host: 1, "node " + at.Host: 1}, asked)
}
