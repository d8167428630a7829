package fetch_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

func TestRedirectsAreErrorsAndNotFollowed(t *testing.T) {
	for _, path := range []string{"/distribution.txt", "/v1/manifest.json", "/v1/shard_001.bin"} {
		for _, code := range []int{
			http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusPermanentRedirect,
		} {
			t.Run(fmt.Sprint(path, " ", code), func(t *testing.T) {
				other := newSite(t, content(1, 10))
				s := newSite(t, content(1, 10)).spoilPath(path, func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, other.URL+path, code)
				})
				pool := newPool(t, fetch.Options{}, s)
				err := pool.Refresh(t.Context(), fetch.All)
				if err == nil {
					e := pool.Offers()[0]
					_, merr := pool.Manifest(t.Context(), e)
					if err = merr; err == nil {
						err = fetchTo(t.Context(), pool, e, new(memory))
					}
				}
				require.ErrorContains(t, err, "redirects to")
				require.ErrorContains(t, err, other.URL+path)
				require.NotErrorIs(t, err, fetch.ErrUnreachable)
				assert.Zero(t, other.asked(""))
			})
		}
	}
}

func TestACertificateThatDoesNotVerifyIsAnError(t *testing.T) {
	var asked atomic.Int64
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	secure.Config.ErrorLog = new(logbook).errorLog()
	secure.StartTLS()
	defer secure.Close()
	u, err := url.Parse(secure.URL)
	require.NoError(t, err)
	pool := newPool(t, fetch.Options{Upstreams: []*url.URL{u}})
	require.ErrorContains(t, pool.Refresh(t.Context(), fetch.All), "certificate")
	assert.Zero(t, asked.Load())
}

func TestHeadersAreBounded(t *testing.T) {
	s := newSite(t).spoilWith(by(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprintf("X-Much-%d", i), strings.Repeat("a", 10_000))
		}
	}))
	require.ErrorContains(t, newPool(t, fetch.Options{}, s).Refresh(t.Context(), fetch.All), "header")
}

func TestErrorBodiesAreBounded(t *testing.T) {
	for _, code := range []int{http.StatusInternalServerError, http.StatusNotFound, http.StatusFound} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			s := newSite(t).spoilWith(by(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				for {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						return
					}
				}
			}))
			err := newPool(t, fetch.Options{Timeout: never}, s).Refresh(t.Context(), fetch.All)
			require.Error(t, err)
			assert.Less(t, len(err.Error()), 1000)
		})
	}
}

func TestErrorBodiesThatNeverEndAreGivenUp(t *testing.T) {
	s := newSite(t).spoilWith(by(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_ = http.NewResponseController(w).Flush()
		silence(w, r)
	}))
	assert.Error(t, newPool(t, fetch.Options{Timeout: 50 * time.Millisecond}, s).Refresh(t.Context(), fetch.All))
}

func TestALocationIsNotRepeatedInFull(t *testing.T) {
	s := newSite(t).spoilWith(by(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://host/"+strings.Repeat("a", 10_000))
		w.WriteHeader(http.StatusFound)
	}))
	err := newPool(t, fetch.Options{}, s).Refresh(t.Context(), fetch.All)
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 1000)
}

func TestPasswordsOfUpstreamsStayOutOfErrorsAndLogs(t *testing.T) {
	var log logbook
	s := newSite(t).spoilWith(by(status(http.StatusUnauthorized)))
	u, err := url.Parse(strings.Replace(s.URL, "http://", "http://user:sesame@", 1))
	require.NoError(t, err)
	pool := newPool(t, fetch.Options{Upstreams: []*url.URL{u}, Logger: log.logger()})
	err = pool.Refresh(t.Context(), fetch.All)
	require.ErrorContains(t, err, "401")
	assert.NotContains(t, err.Error(), "sesame")
	s.Close()
	err = pool.Refresh(t.Context(), fetch.All)
	require.ErrorIs(t, err, fetch.ErrUnreachable)
	assert.NotContains(t, err.Error(), "sesame")
	assert.Empty(t, log.with("sesame"))
}

func TestAServerThatNeverAcceptsIsGivenUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, ln.Close()) }()
	u := &url.URL{Scheme: "http", Host: ln.Addr().String()}
	pool := newPool(t, fetch.Options{Upstreams: []*url.URL{u}, Timeout: 50 * time.Millisecond})
	require.ErrorIs(t, pool.Refresh(t.Context(), fetch.All), fetch.ErrUnreachable)
}

func TestAServerThatSpeaksNoHTTPIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "SSH-2.0-OpenSSH_9.9\r\n")
			_ = conn.Close()
		}
	}()
	u := &url.URL{Scheme: "http", Host: ln.Addr().String()}
	require.Error(t, newPool(t, fetch.Options{Upstreams: []*url.URL{u}}).Refresh(t.Context(), fetch.All))
	require.NoError(t, ln.Close())
	<-ended
}

// A byte now and then does not count: the time-out asks for at least 64 bytes a second.
func TestADrippingAnswerIsReplacedByAnother(t *testing.T) {
	drips := func(w http.ResponseWriter, r *http.Request) {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			<-ticker.C
		}
	}
	for _, what := range []string{"manifest.json", "shard_002.bin"} {
		t.Run(what, func(t *testing.T) {
			simulate(t, publish(t, 3*shardSize, shardSize), func(t *testing.T, n *network) {
				bad := n.host("bad", megabyte).spoilWith(only(what, by(drips)))
				if what == "manifest.json" {
					bad.answer("/v1/manifest.json", drips)
				}
				opts := fetch.Options{Timeout: 400 * time.Millisecond, Concurrency: 1, FastWait: never}
				end, err := n.tryFetch(t, opts, 0, new(memory), bad, n.host("good", megabyte))
				require.NoError(t, err)
				assert.Less(t, end.took, 5*time.Second)
			})
		})
	}
}
