package remote

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseContentRange(t *testing.T) {
	for text, want := range map[string][2]int64{
		"bytes 5-9/20": {5, 20},
		"bytes 0-0/1":  {0, 1},
		"bytes 5-9/*":  {5, -1},
		"bytes 0-9223372036854775806/9223372036854775807": {0, 9223372036854775807},
	} {
		from, size, err := parseContentRange(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, [2]int64{from, size}, text)
	}
	for _, text := range []string{
		"", "bytes", "bytes ", "bytes */20", "bytes -9/20", "bytes 5-9", "bytes 5-9/", "bytes x-9/20", "bytes 5-9/x",
		"bytes -5-9/20", "bytes 99999999999999999999-9/20", "bytes 5-9/99999999999999999999", "kilobytes 5-9/20",
		"bytes=5-9/20",
		"bytes 5-9/20/20", "bytes  5-9/20",
	} {
		_, _, err := parseContentRange(text)
		require.ErrorContains(t, err, "cannot be read", text)
		assert.Less(t, len(err.Error()), 200)
	}
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
