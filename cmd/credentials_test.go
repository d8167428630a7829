//go:build linux

package cmd_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const secret = "s3same"

// guarded serves the plain files of dir to those that know the password.
func guarded(t *testing.T, dir string) (address string) {
	t.Helper()
	files := http.FileServer(http.Dir(dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ci" || password != secret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestAPasswordComesFromAFileAndIsPrintedNowhere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	address := guarded(t, published(t))
	file := filepath.Join(t.TempDir(), "netrc")
	require.NoError(t, os.WriteFile(file, []byte("machine "+address+" login ci password "+secret), 0o600))
	inURL := "http://ci:" + secret + "@"
	for name, tc := range map[string]struct {
		servers, variable, want string
		args                    []string
		code                    int
	}{
		"without credentials": {
			servers: address, args: []string{"--list"}, code: 1,
			want: "it answers 401 Unauthorized: give credentials for " + address + " by --netrc FILE",
		},
		"from a file": {servers: address, args: []string{"--list", "--netrc", file}, want: "v1 "},
		"from a file, downloaded": {
			servers: address, args: []string{"--version=v1", "--netrc", file, "--json"}, want: `"v1"`,
		},
		"in the environment": {
			variable: inURL + address, args: []string{"--version=v1", "--log-level=DEBUG"}, want: "v1",
		},
		"on the command line": {
			servers: inURL + address, args: []string{"--version=v1", "--progress=json"},
			want: "password on the command line, where ps shows it: use --netrc FILE",
		},
		"a wrong port": {servers: inURL + "host:99999", args: []string{"--list"}, code: 2, want: "--servers"},
		"an open parenthesis": {
			servers: "(" + inURL + address, args: []string{"--list"}, code: 2, want: "--servers: the closing",
		},
		"an open quote": {
			variable: `"` + inURL + address, args: []string{"--list"}, code: 2, want: "IP_ADDR_LIST: want",
		},
		"a comma in it": {
			servers: "http://ci:" + secret + ",x@host", args: []string{"--list"}, code: 2, want: "--servers",
		},
		"a percent sign in it": {
			servers: "http://ci:%" + secret + "@host", args: []string{"--list"}, code: 2, want: "--servers",
		},
		"nothing there": {
			servers: inURL + "127.0.0.1:1", args: []string{"--list"}, code: 5, want: "connection refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.servers != "" {
				tc.args = append(tc.args, "--servers", tc.servers)
			}
			cmd := command(ctx, t, "shardcast-client", append(tc.args, "--attempts=1")...)
			cmd.Env = append(os.Environ(), "IP_ADDR_LIST="+tc.variable)
			out, err := cmd.CombinedOutput()
			require.NotNil(t, cmd.ProcessState, err)
			assert.Equal(t, tc.code, cmd.ProcessState.ExitCode(), "%s", out)
			assert.Contains(t, string(out), tc.want)
			assert.NotContains(t, string(out), secret)
		})
	}
}

// A token goes to the servers that were named, and to no other: not where one of them points to.
func TestATokenGoesToTheServersThatWereNamed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	elsewhere := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere <- r.Header.Get("Authorization")
	}))
	t.Cleanup(other.Close)
	files := http.FileServer(http.Dir(published(t)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer " + secret:
			files.ServeHTTP(w, r)
		case "Bearer redirect":
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="weights"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(srv.Close)
	address := strings.TrimPrefix(srv.URL, "http://")
	for name, tc := range map[string]struct {
		token, want string
		code        int
	}{
		"right": {token: secret + "\n", want: `"v1"`},
		"wrong": {
			token: "x" + secret, want: "give a token that " + address + " knows by --token-file FILE", code: 1,
		},
		"redirected": {token: "redirect", want: "redirects are not followed", code: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "token")
			require.NoError(t, os.WriteFile(file, []byte(tc.token), 0o600))
			cmd := command(ctx, t, "shardcast-client", "--version=v1", "--json", "--attempts=1", "--log-level=DEBUG",
				"--servers", address, "--token-file", file)
			out, err := cmd.CombinedOutput()
			require.NotNil(t, cmd.ProcessState, err)
			assert.Equal(t, tc.code, cmd.ProcessState.ExitCode(), "%s", out)
			assert.Contains(t, string(out), tc.want)
			assert.NotContains(t, string(out), secret)
			assert.Empty(t, elsewhere)
		})
	}
}
