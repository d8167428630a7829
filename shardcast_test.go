package shardcast_test

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestOptionsOutOfRange(t *testing.T) {
	here := []string{"host"}
	origin := func(opts shardcast.OriginOptions) func() error {
		return func() error { _, err := shardcast.NewOrigin(opts); return err }
	}
	middle := func(opts shardcast.MiddleOptions) func() error {
		return func() error { _, err := shardcast.NewMiddle(opts); return err }
	}
	client := func(opts shardcast.ClientOptions) func() error {
		return func() error { _, err := shardcast.NewClient(opts); return err }
	}
	limited := func(limits shardcast.ServerLimits) shardcast.OriginOptions {
		return shardcast.OriginOptions{Limits: limits}
	}
	allow := func(swarm bool, prefix netip.Prefix) shardcast.SwarmOptions {
		return shardcast.SwarmOptions{Enabled: swarm, Allow: []netip.Prefix{prefix}}
	}
	fetching := func(opts shardcast.FetchOptions) func() error {
		return client(shardcast.ClientOptions{Servers: here, Fetch: opts})
	}
	relaying := func(opts shardcast.MiddleOptions) func() error {
		opts.Upstreams = here
		return middle(opts)
	}
	crowded := shardcast.ServerLimits{MaxConnections: -1}
	private := netip.MustParsePrefix("10.0.0.0/8")
	mapped := netip.MustParsePrefix("::ffff:10.0.0.0/104")
	for name, makeIt := range map[string]func() error{
		"origin, allowed nowhere":     origin(shardcast.OriginOptions{Swarm: allow(true, netip.Prefix{})}),
		"origin, allowed in IPv6":     origin(shardcast.OriginOptions{Swarm: allow(true, mapped)}),
		"origin, allowed no swarm":    origin(shardcast.OriginOptions{Swarm: allow(false, private)}),
		"middle, allowed no swarm":    relaying(shardcast.MiddleOptions{Swarm: allow(false, private)}),
		"origin, shard size":          origin(shardcast.OriginOptions{ShardSize: -2}),
		"origin, too few versions":    origin(shardcast.OriginOptions{MaxVersions: -1}),
		"origin, too many versions":   origin(shardcast.OriginOptions{MaxVersions: 10_001}),
		"origin, port":                origin(shardcast.OriginOptions{Port: 65_536}),
		"origin, rate":                origin(limited(shardcast.ServerLimits{LimitRate: -1})),
		"origin, rate of a client":    origin(limited(shardcast.ServerLimits{LimitRatePerClient: -1})),
		"origin, connections":         origin(limited(crowded)),
		"origin, those of a client":   origin(limited(shardcast.ServerLimits{MaxConnectionsPerClient: -1})),
		"origin, congestion":          origin(shardcast.OriginOptions{Congestion: "BBR!"}),
		"middle, congestion":          relaying(shardcast.MiddleOptions{Congestion: "a b"}),
		"client, congestion":          client(shardcast.ClientOptions{Servers: here, Congestion: "BBR!"}),
		"origin, dialect":             origin(shardcast.OriginOptions{Dialect: "0.4"}),
		"middle, dialect":             relaying(shardcast.MiddleOptions{Dialect: "3"}),
		"middle, connections":         relaying(shardcast.MiddleOptions{Limits: crowded}),
		"middle, rate of fetching":    relaying(shardcast.MiddleOptions{Fetch: shardcast.FetchOptions{LimitRate: -1}}),
		"middle, no upstream":         middle(shardcast.MiddleOptions{}),
		"middle, not an upstream":     middle(shardcast.MiddleOptions{Upstreams: []string{"host", "ftp://host"}}),
		"middle, upstream's port":     relaying(shardcast.MiddleOptions{UpstreamPort: 65_536}),
		"middle, negative port of it": relaying(shardcast.MiddleOptions{UpstreamPort: -1}),
		"middle, interval":            relaying(shardcast.MiddleOptions{CheckInterval: -1}),
		"middle, versions":            relaying(shardcast.MiddleOptions{MaxVersions: -1}),
		"middle, port":                relaying(shardcast.MiddleOptions{Port: 65_536}),
		"middle, timeout":             relaying(shardcast.MiddleOptions{Fetch: shardcast.FetchOptions{Timeout: -1}}),
		"client, no server":           client(shardcast.ClientOptions{}),
		"client, empty server":        client(shardcast.ClientOptions{Servers: []string{""}}),
		"client, server's port":       client(shardcast.ClientOptions{Servers: here, ServerPort: 65_536}),
		"client, timeout":             fetching(shardcast.FetchOptions{Timeout: -time.Second}),
		"client, attempts":            fetching(shardcast.FetchOptions{Attempts: -1}),
		"client, fast attempts":       fetching(shardcast.FetchOptions{FastAttempts: -1}),
		"client, fast wait":           fetching(shardcast.FetchOptions{FastWait: -1}),
		"client, slow wait":           fetching(shardcast.FetchOptions{SlowWait: -1}),
		"client, concurrency":         fetching(shardcast.FetchOptions{Concurrency: -1}),
		"client, rate":                fetching(shardcast.FetchOptions{LimitRate: -1}),
		"client, wait":                client(shardcast.ClientOptions{Servers: here, Wait: -1}),
		"initialize, options twice": func() error {
			return shardcast.Initialize("data", shardcast.OriginOptions{}, shardcast.OriginOptions{})
		},
		"initialize, bad option": func() error {
			return shardcast.Initialize("data", shardcast.OriginOptions{ShardSize: -2})
		},
		"initialize, port": func() error {
			return shardcast.Initialize("data", shardcast.OriginOptions{Port: 65_536})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			require.ErrorIs(t, makeIt(), shardcast.ErrOptions)
			left, err := os.ReadDir(".")
			require.NoError(t, err)
			assert.Empty(t, left, "made before the check of its options")
		})
	}
}

func TestZeroOptionsAreThoseOfThePythonPackage(t *testing.T) {
	t.Chdir(t.TempDir())
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{})
	require.NoError(t, err)
	assert.DirExists(t, "data")
	require.NoError(t, o.Close())
	assert.NoDirExists(t, "data", "made, and left empty")
	m, err := shardcast.NewMiddle(shardcast.MiddleOptions{Upstreams: []string{"host"}})
	require.NoError(t, err)
	assert.DirExists(t, "middle_data")
	require.NoError(t, m.Close())
	assert.Equal(t, 8000, shardcast.DefaultPort)
	assert.Equal(t, 50_000_000, shardcast.DefaultShardSize)
	assert.Equal(t, 15, shardcast.DefaultMaxVersions)
	assert.Equal(t, 30*time.Second, shardcast.DefaultCheckInterval)
}

func TestWithoutInitialize(t *testing.T) {
	_, err := shardcast.Broadcast("weights.bin")
	require.ErrorIs(t, err, shardcast.ErrNotInitialized)
	require.ErrorIs(t, shardcast.Shutdown(), shardcast.ErrNotInitialized)
}

func TestInitializeBroadcastShutdown(t *testing.T) {
	dir := t.TempDir()
	anyPort := shardcast.OriginOptions{Port: -1}
	for _, want := range []string{"v1", "v2"} {
		require.NoError(t, shardcast.Initialize(dir, anyPort))
		require.ErrorContains(t, shardcast.Initialize(dir, anyPort), "initialized already")
		v, err := shardcast.Broadcast(file(t, want))
		require.NoError(t, err)
		assert.Equal(t, want, v)
		_, err = shardcast.Broadcast(dir)
		require.ErrorContains(t, err, "the data directory "+dir+" lies in it")
		require.NoError(t, shardcast.Shutdown())
		require.ErrorIs(t, shardcast.Shutdown(), shardcast.ErrNotInitialized)
	}
}

func TestInitializeIgnoresTheOptionsDataDir(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	require.NoError(t, shardcast.Initialize(dir, shardcast.OriginOptions{DataDir: other, Port: -1}))
	require.NoError(t, shardcast.Shutdown())
	assert.NoDirExists(t, other)
}

func TestInitializeThatFailsCanBeTriedAgain(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, ok := taken.Addr().(*net.TCPAddr)
	require.True(t, ok)
	dir := t.TempDir()
	opts := shardcast.OriginOptions{Host: "127.0.0.1", Port: addr.Port}
	require.ErrorIs(t, shardcast.Initialize(dir, opts), syscall.EADDRINUSE)
	_, err = shardcast.Broadcast("weights.bin")
	require.ErrorIs(t, err, shardcast.ErrNotInitialized)

	require.Error(t, shardcast.Initialize(file(t, "not a directory"), shardcast.OriginOptions{Port: -1}))

	require.NoError(t, taken.Close())
	require.NoError(t, shardcast.Initialize(dir, opts))
	v, err := newClient(t, shardcast.ClientOptions{Servers: []string{addr.String()}}).List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, v)
	require.NoError(t, shardcast.Shutdown())
}

func TestInitializeFailsWhereAnotherServerHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	_, address := newOrigin(t, dir)
	_, err := newClient(t, shardcast.ClientOptions{Servers: []string{address}}).List(t.Context())
	require.NoError(t, err, "it serves by now")
	err = shardcast.Initialize(dir, shardcast.OriginOptions{Port: -1})
	if err == nil {
		// For the tests that follow.
		defer func() { _ = shardcast.Shutdown() }()
	}
	require.ErrorIs(t, err, shardcast.ErrInUse)
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, taken.Close()) }()
	addr, ok := taken.Addr().(*net.TCPAddr)
	require.True(t, ok)
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: t.TempDir(), Host: "127.0.0.1", Port: addr.Port})
	require.NoError(t, err)
	_, err = o.Listen()
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, o.Close())
	m, err := shardcast.NewMiddle(shardcast.MiddleOptions{
		Upstreams: []string{"host"}, DataDir: t.TempDir(), Host: "127.0.0.1", Port: addr.Port,
	})
	require.NoError(t, err)
	_, err = m.Listen()
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, m.Close())
}

func TestOneServerADirectory(t *testing.T) {
	dir := t.TempDir()
	_, address := newOrigin(t, dir)
	_, err := newClient(t, shardcast.ClientOptions{Servers: []string{address}}).List(t.Context())
	require.NoError(t, err, "it serves by now")
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: dir, Port: -1})
	require.NoError(t, err)
	m, err := shardcast.NewMiddle(shardcast.MiddleOptions{Upstreams: []string{address}, DataDir: dir, Port: -1})
	require.NoError(t, err)
	for _, s := range []server{o, m} {
		ln, err := s.Listen()
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(t.Context(), ln), shardcast.ErrInUse)
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, s.Close())
	}
}

func TestDialectIsThatOfTheRoot(t *testing.T) {
	o, err := shardcast.NewOrigin(
		shardcast.OriginOptions{DataDir: t.TempDir(), Host: "127.0.0.1", Port: -1, Dialect: "0.3"},
	)
	require.NoError(t, err)
	_, err = o.Broadcast(t.Context(), file(t, "some text"))
	require.NoError(t, err)
	upstream := serve(t, o)
	m, err := shardcast.NewMiddle(shardcast.MiddleOptions{
		Upstreams: []string{
			"http://" + upstream + "/py01",
		},
		DataDir: t.TempDir(),
		Host:    "127.0.0.1",
		Port:    -1,
		Dialect: "0.3",
	})
	require.NoError(t, err)
	for _, address := range []string{upstream, serve(t, m)} {
		require.Eventually(t, func() bool {
			resp, err := http.Get("http://" + address + "/distribution.txt")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return err == nil && strings.HasSuffix(string(text), "|1\n")
		}, 30*time.Second, 10*time.Millisecond)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestBroadcastBesideAServer(t *testing.T) {
	dir := t.TempDir()
	_, address := newOrigin(t, dir)
	beside, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: dir})
	require.NoError(t, err)
	v, err := beside.Broadcast(t.Context(), file(t, "from beside"))
	require.NoError(t, err)
	require.NoError(t, beside.Close())
	got, err := newClient(
		t,
		shardcast.ClientOptions{Servers: []string{address}},
	).Download(
		t.Context(),
		v,
		filepath.Join(t.TempDir(), "copy"),
	)
	require.NoError(t, err)
	assert.Equal(t, "from beside", read(t, got.Path))
}

func TestBroadcastIntoAMiddlesDirectory(t *testing.T) {
	dir := t.TempDir()
	_, upstream := newOrigin(t, t.TempDir())
	m, err := shardcast.NewMiddle(
		shardcast.MiddleOptions{Upstreams: []string{upstream}, DataDir: dir, Host: "127.0.0.1", Port: -1},
	)
	require.NoError(t, err)
	address := serve(t, m)
	_, err = newClient(t, shardcast.ClientOptions{Servers: []string{address}}).List(t.Context())
	require.NoError(t, err, "it serves by now")
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: dir})
	require.NoError(t, err)
	_, err = o.Broadcast(t.Context(), file(t, "of another tier"))
	require.ErrorIs(t, err, shardcast.ErrInUse)
	require.NoError(t, o.Close())
}

func TestBroadcastErrors(t *testing.T) {
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: t.TempDir()})
	require.NoError(t, err)
	_, err = o.Broadcast(t.Context(), "no/such/file")
	require.ErrorIs(t, err, fs.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = o.Broadcast(ctx, file(t, "too late"))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, o.Close())
}

func TestShutdownEndsABroadcastWithoutATrace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "large.bin")
	require.NoError(t, os.WriteFile(path, make([]byte, 64<<20), 0o600))
	require.NoError(
		t,
		shardcast.Initialize(dir, shardcast.OriginOptions{Host: "127.0.0.1", Port: -1, ShardSize: 4 << 10}),
	)
	failed := make(chan error)
	go func() {
		_, err := shardcast.Broadcast(path)
		failed <- err
	}()
	drafts := filepath.Join(dir, ".shardcast", "drafts")
	require.Eventually(t, func() bool {
		found, err := os.ReadDir(drafts)
		return err == nil && len(found) > 0
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, shardcast.Shutdown())
	require.ErrorIs(t, <-failed, context.Canceled)
	left, err := os.ReadDir(drafts)
	require.NoError(t, err)
	assert.Empty(t, left)
}
