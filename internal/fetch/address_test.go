package fetch_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

func TestParseAddressTakesTheFormsThatUsersWrite(t *testing.T) {
	for s, want := range map[string]string{
		"host":                  "http://host:8000",
		"host:9":                "http://host:9",
		"node-1.example.org":    "http://node-1.example.org:8000",
		"my_host:65535":         "http://my_host:65535",
		"192.0.2.7":             "http://192.0.2.7:8000",
		"192.0.2.7:1":           "http://192.0.2.7:1",
		"::1":                   "http://[::1]:8000",
		"2001:db8::7":           "http://[2001:db8::7]:8000",
		"[2001:db8::7]":         "http://[2001:db8::7]:8000",
		"[2001:db8::7]:9":       "http://[2001:db8::7]:9",
		"::ffff:192.0.2.7":      "http://[::ffff:192.0.2.7]:8000",
		"fe80::1%eth0":          "http://[fe80::1%25eth0]:8000",
		"[fe80::1%eth0]":        "http://[fe80::1%25eth0]:8000",
		"[fe80::1%eth0]:9":      "http://[fe80::1%25eth0]:9",
		"http://host":           "http://host",
		"http://host:9":         "http://host:9",
		"HTTP://host/":          "http://host",
		"https://host":          "https://host",
		"https://host:9/a/b":    "https://host:9/a/b",
		"https://host/a/":       "https://host/a",
		"https://host/a/../b":   "https://host/b",
		"http://192.0.2.7/a":    "http://192.0.2.7/a",
		"http://[::1]":          "http://[::1]",
		"http://[::1]:9/a":      "http://[::1]:9/a",
		"http://[fe80::1%25e0]": "http://[fe80::1%25e0]",
		"http://us:er@host":     "http://us:er@host",
		"https://u:p@host:9/a":  "https://u:p@host:9/a",
		"http://host/a%20b":     "http://host/a%20b",
		"dns+http://host":       "dns+http://host",
		"DNS+HTTP://host:9/a/":  "dns+http://host:9/a",
	} {
		t.Run(s, func(t *testing.T) {
			u, err := fetch.ParseAddress(s, fetch.DefaultPort)
			require.NoError(t, err)
			// With a slash at the end or without, requests have the same path.
			assert.Equal(t, want, strings.TrimSuffix(u.String(), "/"))
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                        "",
		"a space":                        " ",
		"space before":                   " host",
		"space after":                    "host ",
		"space inside":                   "ho st",
		"newline":                        "host\n",
		"NUL":                            "host\x00",
		"letters beyond ASCII":           "höst",
		"port 0":                         "host:0",
		"port 65536":                     "host:65536",
		"negative port":                  "host:-1",
		"signed port":                    "host:+80",
		"port of letters":                "host:http",
		"empty port":                     "host:",
		"no host":                        ":8000",
		"two ports":                      "host:1:2",
		"IPv4 and two ports":             "192.0.2.7:1:2",
		"IPv6 and port 0":                "[::1]:0",
		"IPv6 and port 65536":            "[::1]:65536",
		"IPv6 and empty port":            "[::1]:",
		"unclosed bracket":               "[::1",
		"unopened bracket":               "::1]",
		"name in brackets":               "[host]",
		"IPv4 in brackets":               "[192.0.2.7]",
		"name in brackets with port":     "[host]:9",
		"IPv4 in brackets with port":     "[192.0.2.7]:9",
		"zone with space":                "fe80::1%eth 0",
		"zone with slash":                "fe80::1%eth/0",
		"zone with bracket":              "[fe80::1%eth]0]",
		"zone with space and port":       "[fe80::1%eth 0]:9",
		"zone with question mark":        "fe80::1%eth?0",
		"path without scheme":            "host/path",
		"port and path without scheme":   "host:9/path",
		"user without scheme":            "user@host",
		"password without scheme":        "user:password@host",
		"other scheme":                   "ftp://host",
		"file":                           "file:///etc/passwd",
		"no scheme":                      "://host",
		"scheme without slashes":         "http:host",
		"URL without host":               "http://",
		"URL without host but port":      "http://:9",
		"URL without host but path":      "http:///path",
		"URL with port 0":                "http://host:0",
		"URL with port 65536":            "http://host:65536",
		"URL with empty port":            "http://host:",
		"URL with port of letters":       "http://host:http",
		"URL with query":                 "http://host/?a=b",
		"URL with empty query":           "http://host/?",
		"URL with fragment":              "http://host/#a",
		"URL with space":                 "http://ho st",
		"URL with space at the end":      "http://host ",
		"URL with name in brackets":      "http://[host]",
		"URL with IPv4 in brackets":      "http://[192.0.2.7]",
		"URL with bare IPv6":             "http://::1",
		"URL with zone with slash":       "http://[fe80::1%25eth%2F0]",
		"URL with percent in host":       "http://ho%41st",
		"URL with newline":               "http://host\n/",
		"two servers":                    "host1,host2",
		"two servers in a shell's array": `("host1" "host2")`,
		"too long a name":                strings.Repeat("a", 254),
	} {
		t.Run(name, func(t *testing.T) {
			u, err := fetch.ParseAddress(s, fetch.DefaultPort)
			require.Error(t, err, "accepted as %v", u)
			assert.LessOrEqual(t, len(err.Error()), 600)
		})
	}
}

func TestParseAddressKeepsPasswordsOutOfErrors(t *testing.T) {
	for _, s := range []string{
		"user:sesame@host", "sesame@host:9", "ftp://user:sesame@host", "http://user:sesame@host:0",
		"http://user:sesame@ho st",
		"http://user:sesame@host?a", "http://user:sesame@", "http://user:ses/sesame@host", "http://user:@sesame@host#a",
		"http://user:%zzsesame@host", "[sesame@::1]", "http://host/?token=sesame", "http://host:9/#sesame",
	} {
		t.Run(s, func(t *testing.T) {
			u, err := fetch.ParseAddress(s, fetch.DefaultPort)
			require.Error(t, err, "accepted as %v", u)
			assert.NotContains(t, err.Error(), "sesame")
		})
	}
}

func TestParseAddressTakesTheDefaultPortAsItIs(t *testing.T) {
	u, err := fetch.ParseAddress("host", 123)
	require.NoError(t, err)
	assert.Equal(t, "host:123", u.Host)
	for _, port := range []int{-1, 0, 65536} {
		_, err := fetch.ParseAddress("host", port)
		assert.Error(t, err, "port %d", port)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"host", "host:9", "192.0.2.7", "::1", "[::1]:9", "fe80::1%eth0", "fe80::1%a b", "http://host",
		"https://u:p@host:9/a/../b",
		"http://[fe80::1%25eth0]:9/a%2fb", "http://host/%2e%2e/a", "http://host//a//", "http://host/?", "host/path", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := fetch.ParseAddress(s, fetch.DefaultPort)
		if err != nil {
			return
		}
		again, err := fetch.ParseAddress(u.String(), 1)
		require.NoError(t, err)
		require.Equal(t, u.String(), again.String())
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.NotEmpty(t, u.Hostname())
		require.Equal(t, u.Hostname(), again.Hostname())
	})
}

func TestHasPort(t *testing.T) {
	for address, want := range map[string]bool{
		"a": false, "a:8000": true, "10.0.0.1": false, "10.0.0.1:1": true, "::1": false, "[::1]": false,
		"[::1]:80": true,
		"http://a": true, "https://a": true, "http://a:8000": true, "dns+http://a": true,
	} {
		assert.Equal(t, want, fetch.HasPort(address), address)
	}
}
