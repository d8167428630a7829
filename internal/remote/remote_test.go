package remote_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 30 * time.Second

// pipes is a listener of connections that are no sockets, so that tests can have a clock of
// their own.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serve returns a client, and a server that h answers for.
func serve(t *testing.T, opts remote.Options, h http.HandlerFunc) (*remote.Client, *remote.Server) {
	t.Helper()
	p := pipes{make(chan net.Conn)}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(p)
	}()
	opts.Timeout = cmp.Or(opts.Timeout, timeout)
	opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return ours, nil
	}
	client := remote.New(opts)
	t.Cleanup(func() {
		client.Close()
		close(p.conns)
		<-served
		assert.NoError(t, server.Close())
		time.Sleep(time.Minute) // for handlers that sleep: the clock stops with the test
	})
	return client, remote.NewServer(&url.URL{Scheme: "http", Host: "server.example", Path: "/base"})
}

// bubble runs a test on a clock of its own.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// hang answers nothing until the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestAServerThatSendsNothingIsSilent(t *testing.T) {
	for name, tc := range map[string]struct {
		r    remote.Request
		sent int // bytes, before nothing more
		want time.Duration
	}{
		"from the start":                 {remote.Request{}, 0, timeout},
		"after a while":                  {remote.Request{}, 10_000, timeout},
		"with a time-out of the request": {remote.Request{Timeout: time.Second}, 0, time.Second},
		"held at first":                  {remote.Request{Hold: time.Minute}, 0, timeout + time.Minute},
		"held at first, and then not":    {remote.Request{Hold: time.Minute}, 10_000, timeout},
		"with pauses as long as the hold": {
			remote.Request{Hold: time.Minute, Trickles: true}, 10_000, timeout + time.Minute,
		},
	} {
		bubble(t, name, func(t *testing.T) {
			client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, r *http.Request) {
				if tc.sent > 0 {
					_, _ = w.Write(make([]byte, tc.sent))
					_ = http.NewResponseController(w).Flush()
				}
				hang(w, r)
			})
			start := time.Now()
			body, err := client.Get(t.Context(), server, tc.r)
			if tc.sent > 0 {
				require.NoError(t, err)
				defer body.Close()
				var n int64
				n, err = io.Copy(io.Discard, body)
				assert.EqualValues(t, tc.sent, n)
				require.ErrorContains(t, err, "sent n") // nothing, or next to nothing
			} else {
				require.ErrorIs(t, err, remote.ErrSilent)
				require.ErrorIs(t, err, remote.ErrUnreachable)
				require.ErrorContains(t, err, "http://server.example/base: ")
			}
			assert.Equal(t, tc.want, time.Since(start))
		})
	}
}

// drip sends so many bytes a second for five minutes.
func drip(bytes int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for range 300 {
			if _, err := w.Write(make([]byte, bytes)); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}

func TestLessThanSixtyFourBytesASecondCountAsSilence(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes    int
		trickles bool
		ok       bool
	}{
		"70 a second":                {70, false, true},
		"60 a second":                {60, false, false},
		"a byte a second":            {1, false, false},
		"a byte, where that is news": {1, true, true},
	} {
		bubble(t, name, func(t *testing.T) {
			client, server := serve(t, remote.Options{}, drip(tc.bytes))
			start := time.Now()
			body, err := client.Get(t.Context(), server, remote.Request{Trickles: tc.trickles})
			require.NoError(t, err)
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
			if tc.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "sent next to nothing in 30s")
			assert.LessOrEqual(t, time.Since(start), 2*timeout)
		})
	}
}

func TestErrorsOfAnswers(t *testing.T) {
	after := func(wait string) map[string]string { return map[string]string{"Retry-After": wait} }
	for name, tc := range map[string]struct {
		code   int
		header map[string]string
		is     error
		text   string
		wait   time.Duration // of a busy server
	}{
		"404":              {404, nil, fs.ErrNotExist, "", -1},
		"410":              {410, nil, fs.ErrNotExist, "", -1},
		"409":              {409, nil, remote.Conflict, "", -1},
		"416":              {416, nil, remote.Unsatisfiable, "", -1},
		"500":              {500, nil, remote.Status(500), "500", -1},
		"503":              {503, nil, remote.Status(503), "503", -1},
		"503 with a wait":  {503, after("7"), remote.Status(503), "503", 7 * time.Second},
		"503 with no wait": {503, after("0"), remote.Status(503), "", 0},
		"503 with a day":   {503, after("86400"), remote.Status(503), "", 10 * time.Minute},
		"429 with a wait":  {429, after("2"), remote.Status(429), "429", 2 * time.Second},
		"500 with a wait":  {500, after("7"), remote.Status(500), "", -1},
		"a redirect":       {301, map[string]string{"Location": "http://elsewhere/x"}, nil, "elsewhere/x", -1},
		"a name of none": {
			421, nil, remote.Status(421),
			"it does not go by the name server.example: start it with --allow-host server.example", -1,
		},
		"204":                 {204, nil, remote.Status(204), "", -1},
		"304 of nothing":      {304, nil, nil, "", -1},
		"a part of the whole": {206, map[string]string{"Content-Range": "bytes 0-1/9"}, remote.Status(206), "", -1},
	} {
		bubble(t, name, func(t *testing.T) {
			requests := 0
			client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, _ *http.Request) {
				requests++
				for name, value := range tc.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tc.code)
			})
			_, err := client.Get(t.Context(), server, remote.Request{Path: []string{"v1", "manifest.json"}})
			require.Error(t, err)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			require.ErrorContains(t, err, tc.text)
			require.ErrorContains(t, err, "http://server.example/base/v1/manifest.json: ")
			require.NotErrorIs(t, err, remote.ErrUnreachable, "it has answered")
			var busy *remote.Busy
			if tc.wait < 0 {
				assert.NotErrorAs(t, err, &busy)
			} else {
				require.ErrorAs(t, err, &busy)
				assert.Equal(t, tc.wait, busy.Wait)
			}
			assert.Equal(t, 1, requests, "nothing is followed")
		})
	}
}

func TestAServerThatCannotBeReached(t *testing.T) {
	refused := errors.New("connection refused")
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, refused }
	client := remote.New(remote.Options{Timeout: timeout, Dial: dial})
	defer client.Close()
	_, err := client.Get(t.Context(), remote.NewServer(&url.URL{
		Scheme: "http", Host: "a", User: url.UserPassword("me", "secret"),
	}), remote.Request{})
	require.ErrorIs(t, err, remote.ErrUnreachable)
	require.ErrorIs(t, err, refused)
	assert.NotContains(t, err.Error(), "secret")
}

func TestGetEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := serve(t, remote.Options{}, hang)
		enough := errors.New("had enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, enough)
		defer cancel()
		_, err := client.Get(ctx, server, remote.Request{})
		require.ErrorIs(t, err, enough)
	})
}

func TestGetSendsTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got *http.Request
		client, server := serve(t, remote.Options{}, func(_ http.ResponseWriter, r *http.Request) { got = r })
		for _, tc := range []struct {
			r    remote.Request
			path string
			rng  string
		}{
			{remote.Request{}, "/base", ""},
			{remote.Request{Path: []string{"v1", "shard_001.bin"}}, "/base/v1/shard_001.bin", ""},
			{remote.Request{Digest: shard.Digest{1}}, "/base?digest=" + shard.Digest{1}.String(), ""},
			{remote.Request{Want: disk.Range{From: 5, To: 10}}, "/base", "bytes=5-9"},
			{remote.Request{Want: disk.Range{To: 1}}, "/base", "bytes=0-0"},
			{remote.Request{Header: map[string]string{"Prefer": "wait=5"}}, "/base", ""},
		} {
			body, err := client.Get(t.Context(), server, tc.r)
			require.NoError(t, err)
			require.NoError(t, body.Close())
			assert.Equal(t, tc.path, got.URL.RequestURI())
			assert.Equal(t, tc.rng, got.Header.Get("Range"))
			assert.Equal(t, tc.r.Header["Prefer"], got.Header.Get("Prefer"))
			assert.Equal(t, "server.example", got.Host)
			assert.Equal(t, "shardcast", got.UserAgent())
			assert.Equal(t, "identity", got.Header.Get("Accept-Encoding"), "the digests are of the bytes as they are")
		}
	})
}

func TestRangesOfAnswers(t *testing.T) {
	const kilo = 1 << 10
	data := bytes.Repeat([]byte("0123456789abcdef"), 16*kilo) // 256 KiB
	const size = 256 * kilo
	whole := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
	all := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
	// part answers a request for a range with another one.
	part := func(from, to int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				all(w, r)
				return
			}
			if text == "" {
				text = fmt.Sprintf("bytes %d-%d/%d", from, to-1, size)
			}
			w.Header().Set("Content-Range", text)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[from:to])
		}
	}
	want := disk.Range{From: 100 * kilo, To: 200 * kilo}
	for name, tc := range map[string]struct {
		h        http.HandlerFunc
		want     disk.Range
		from, to int64
		requests int
		isSplit  bool // whether more than one range may be requested at once
	}{
		"all":      {whole, disk.Range{}, 0, 0, 1, true},
		"the part": {whole, want, want.From, want.To, 1, true},
		"a part of any size": {
			part(100*kilo, 200*kilo, "bytes 102400-204799/*"), want, want.From, want.To, 1, true,
		},
		"an earlier part":        {part(64*kilo, 192*kilo, ""), want, 64 * kilo, 192 * kilo, 1, false},
		"a longer part":          {part(100*kilo, 256*kilo, ""), want, want.From, size, 1, true},
		"a shorter part":         {part(100*kilo, 164*kilo, ""), want, want.From, 164 * kilo, 1, true},
		"a later part":           {part(101*kilo, 200*kilo, ""), want, 0, 0, 2, false},
		"a part that is before":  {part(0, 100*kilo, ""), want, 0, 0, 2, false},
		"next to nothing":        {part(100*kilo, 101*kilo, ""), want, 0, 0, 2, false},
		"a part of another size": {part(100*kilo, 200*kilo, "bytes 102400-204799/300000"), want, 0, 0, 2, false},
		"a part of another length": {
			part(100*kilo, 101*kilo, "bytes 102400-204799/262144"), want, 0, 0, 2, false,
		},
		"no Content-Range":            {part(100*kilo, 200*kilo, " "), want, 0, 0, 2, false},
		"an unreadable Content-Range": {part(100*kilo, 200*kilo, "bytes all"), want, 0, 0, 2, false},
		"several parts": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			part(0, 10, " ")(w, r)
		}, want, 0, 0, 2, false},
		"a refusal of the range": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			all(w, r)
		}, want, 0, 0, 2, false},
		"all in place of a part":    {all, want, 0, 0, 1, false},
		"all in place of the begin": {all, disk.Range{To: 5}, 0, 0, 1, true},
		"all in chunks": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			all(w, r)
		}, disk.Range{}, 0, 0, 1, true},
	} {
		bubble(t, name, func(t *testing.T) {
			requests := 0
			client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, r *http.Request) {
				requests++
				tc.h(w, r)
			})
			body, err := client.Get(t.Context(), server, remote.Request{Want: tc.want, Size: size})
			require.NoError(t, err)
			assert.Equal(t, tc.from, body.From)
			assert.Equal(t, tc.to, body.To)
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			assert.Equal(t, string(data[tc.from:cmp.Or(tc.to, size)]), string(got))
			require.NoError(t, body.Close())
			assert.Equal(t, tc.requests, requests)
			assert.Equal(t, tc.isSplit, !server.Rangeless())
			if tc.requests == 1 {
				return
			}
			body, err = client.Get(t.Context(), server, remote.Request{Want: tc.want, Size: size})
			require.NoError(t, err)
			require.NoError(t, body.Close())
			assert.Equal(t, tc.requests+1, requests, "it is asked for all of it at once from then on")
		})
	}
}

// Its fault may not last, so the next range is requested as usual.
func TestAServerWhoseAnswerToARangeIsAnErrorIsAskedForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ranges []string
		client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, r *http.Request) {
			if ranges = append(ranges, r.Header.Get("Range")); ranges[len(ranges)-1] != "" {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, "0123456789")
		})
		for range 2 {
			body, err := client.Get(t.Context(), server, remote.Request{Want: disk.Range{From: 5, To: 10}, Size: 10})
			require.NoError(t, err)
			assert.Zero(t, body.From)
			require.NoError(t, body.Close())
		}
		assert.Equal(t, []string{"bytes=5-9", "", "bytes=5-9", ""}, ranges)
	})
}

func TestARangeBehindTheEndIsNotSatisfiable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
		})
		_, err := client.Get(t.Context(), server, remote.Request{Want: disk.Range{From: 20, To: 30}})
		require.ErrorIs(t, err, remote.Unsatisfiable)
		assert.False(t, server.Rangeless())
	})
}

func TestAnUnchangedResourceHasNothingToRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotModified)
		})
		body, err := client.Get(t.Context(), server, remote.Request{Header: map[string]string{"If-None-Match": `"x"`}})
		require.NoError(t, err)
		defer body.Close()
		assert.True(t, body.Unchanged)
	})
}

func TestLimitedAnswersKeepToTheRate(t *testing.T) {
	const rate, size = 1 << 20, 10 << 20
	send := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }
	for name, tc := range map[string]struct {
		limited bool
		want    time.Duration
	}{"limited": {true, size / rate * time.Second}, "not limited": {false, 0}} {
		bubble(t, name, func(t *testing.T) {
			// The time-out is shorter than the waits for the rate: these are no silence.
			opts := remote.Options{Timeout: 500 * time.Millisecond, LimitRate: rate, Connections: 1}
			client, server := serve(t, opts, send)
			start := time.Now()
			body, err := client.Get(t.Context(), server, remote.Request{Limited: tc.limited})
			require.NoError(t, err)
			defer body.Close()
			n, err := io.Copy(io.Discard, body)
			require.NoError(t, err)
			assert.EqualValues(t, size, n)
			assert.InDelta(t, tc.want, time.Since(start), float64(time.Second))
		})
	}
}

func TestEndOfAHeldRequest(t *testing.T) {
	const wait = 50 * time.Second
	closes := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	code := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tc := range map[string]struct {
		after  time.Duration
		answer http.HandlerFunc
		cutOff bool
		ok     bool
	}{
		"an answer":                       {wait, code(200), false, true},
		"408":                             {10 * time.Second, code(408), true, false},
		"502":                             {10 * time.Second, code(502), true, false},
		"504":                             {10 * time.Second, code(504), true, false},
		"another error":                   {10 * time.Second, code(500), false, false},
		"a connection that ends":          {10 * time.Second, closes, true, false},
		"after two seconds":               {2*time.Second + time.Millisecond, code(504), true, false},
		"before":                          {2*time.Second - time.Millisecond, code(504), false, false},
		"a connection that ends before":   {2*time.Second - time.Millisecond, closes, false, false},
		"as late as an answer may come":   {wait + 3*time.Second, code(504), true, false},
		"too late":                        {wait + 3*time.Second + 2*time.Millisecond, code(504), false, false},
		"a connection that ends too late": {wait + 3*time.Second + 2*time.Millisecond, closes, false, false},
	} {
		bubble(t, name, func(t *testing.T) {
			requests := 0
			client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, r *http.Request) {
				requests++
				time.Sleep(tc.after)
				tc.answer(w, r)
			})
			ctx, held := remote.WatchHeld(t.Context(), wait, timeout)
			body, err := client.Get(ctx, server, remote.Request{Hold: wait})
			if err == nil {
				require.NoError(t, body.Close())
			}
			dur, err := held.Ended(err)
			assert.InDelta(t, tc.after, dur, float64(time.Millisecond))
			assert.Equal(t, tc.ok, err == nil)
			assert.Equal(t, tc.cutOff, errors.Is(err, remote.ErrCutOff))
			assert.Equal(t, 1, requests)
		})
	}
}

// A transport asks again, at once, when a connection breaks that was used before. A held
// request is not asked again: the server is asked with a shorter wait instead.
func TestAHeldRequestIsNotMadeAgainByTheTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		client, server := serve(t, remote.Options{}, func(w http.ResponseWriter, _ *http.Request) {
			if requests++; requests == 1 {
				return
			}
			time.Sleep(10 * time.Second)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		})
		body, err := client.Get(t.Context(), server, remote.Request{}) // for the connection to be used again
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, body)
		require.NoError(t, body.Close())
		ctx, held := remote.WatchHeld(t.Context(), 50*time.Second, timeout)
		_, err = client.Get(ctx, server, remote.Request{Hold: 50 * time.Second})
		dur, err := held.Ended(err)
		require.ErrorIs(t, err, remote.ErrCutOff)
		assert.InDelta(t, 10*time.Second, dur, float64(time.Millisecond))
		assert.Equal(t, 2, requests)
	})
}

// The Python package's programs ask port 80 where an address has none, and its servers
// listen on 8000.
func TestAServerWithoutAPortIsAskedAtPort80WhereItsOwnRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listening := map[string]http.HandlerFunc{}
		var dialled, hosts []string
		dial := func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			h := listening[address]
			if h == nil {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			ours, theirs := net.Pipe()
			p := pipes{make(chan net.Conn, 1)}
			p.conns <- theirs
			server := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					hosts = append(hosts, r.Host)
					h(w, r)
				})}
			server.SetKeepAlivesEnabled(false)
			go func() { _ = server.Serve(p) }()
			t.Cleanup(func() {
				close(p.conns)
				_ = server.Close()
			})
			return ours, nil
		}
		u := &url.URL{Scheme: "http", Host: "a:8000"}
		opts := remote.Options{Timeout: timeout, Dial: dial, Portless: []*url.URL{u}}
		client, s := remote.New(opts), remote.NewServer(u)
		defer client.Close()
		// get returns the ports that are asked, and whether there is an answer.
		get := func() (string, bool) {
			dialled = nil
			body, err := client.Get(t.Context(), s, remote.Request{})
			if err == nil {
				require.NoError(t, body.Close())
			} else {
				require.ErrorContains(t, err, "http://a:8000/: ", "the port that was meant is named")
			}
			return strings.Join(dialled, " "), err == nil
		}
		ok, missing := func(http.ResponseWriter, *http.Request) {}, http.NotFound
		for _, step := range []struct {
			at8000, at80 http.HandlerFunc
			asked        string
			ok           bool
		}{
			{nil, nil, "a:8000 a:80", false},
			{nil, missing, "a:8000 a:80", false}, // another web server
			{nil, ok, "a:8000 a:80", true},
			{nil, ok, "a:80", true},
			{ok, nil, "a:80 a:8000", true},
			{ok, ok, "a:8000", true},
			{nil, ok, "a:8000", false}, // it restarts
		} {
			listening["a:8000"], listening["a:80"] = step.at8000, step.at80
			asked, answered := get()
			assert.Equal(t, step.asked, asked)
			assert.Equal(t, step.ok, answered)
		}
		assert.Contains(t, hosts, "a", "the Host of port 80 names no port")

		other, err := url.Parse("http://a:8000")
		require.NoError(t, err)
		listening["a:80"] = ok
		s = remote.NewServer(other) // whose port was given
		asked, answered := get()
		assert.Equal(t, "a:8000", asked)
		assert.False(t, answered)
	})
}

func TestPortOfAServer(t *testing.T) {
	for text, want := range map[string]string{
		"http://a": "a:80", "https://a": "a:443", "http://a:8000": "a:8000", "http://[::1]:7/base": "[::1]:7",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		assert.Equal(t, want, remote.NewServer(u).Host())
	}
}

func TestMatchingKeepsTheTextAndTheCause(t *testing.T) {
	cause, kind := errors.New("it broke"), errors.New("some kind")
	err := fmt.Errorf("wrapped: %w", remote.Matching(cause, kind))
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, kind)
	assert.Equal(t, "wrapped: it broke", err.Error())
	assert.NotContains(t, err.Error(), "kind")
}
