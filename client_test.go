package shardcast_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestClientDownloads(t *testing.T) {
	o, address := newOrigin(t, t.TempDir())
	for _, text := range []string{"the first", "the second"} {
		_, err := o.Broadcast(t.Context(), file(t, text))
		require.NoError(t, err)
	}
	outputDir := filepath.Join(t.TempDir(), "out")
	c := newClient(t, shardcast.ClientOptions{Servers: []string{address}, OutputDir: outputDir})
	for name, tc := range map[string]struct {
		version, path, wantPath, wantVersion, want string
	}{
		"a version": {
			"v1", filepath.Join(outputDir, "a", "b"), filepath.Join(outputDir, "a", "b"), "v1",
			"the first",
		},
		"latest": {
			shardcast.Latest, filepath.Join(outputDir, "c"), filepath.Join(outputDir, "c"), "v2",
			"the second",
		},
		"no path":       {"v1", "", filepath.Join(outputDir, "download_v1.bin"), "v1", "the first"},
		"latest there":  {shardcast.Latest, "", filepath.Join(outputDir, "download_v2.bin"), "v2", "the second"},
		"it once again": {"v2", "", filepath.Join(outputDir, "download_v2.bin"), "v2", "the second"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.Download(t.Context(), tc.version, tc.path)
			require.NoError(t, err)
			assert.Equal(t, tc.wantPath, got.Path)
			assert.Equal(t, tc.want, read(t, got.Path))
			assert.Equal(t, tc.wantVersion, got.Version.Name)
			assert.Equal(t, "weights.bin", got.Version.File)
			assert.Equal(t, int64(len(tc.want)), got.Version.Size)
			assert.Equal(t, (len(tc.want)+3)/4, got.Version.Shards)
			assert.Len(t, got.Version.Digest, 64)
			assert.WithinDuration(t, time.Now(), got.Version.Date, time.Minute)
		})
	}
}

func TestClientDownloadsToTheDefaultDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	o, address := newOrigin(t, t.TempDir())
	_, err := o.Broadcast(t.Context(), file(t, ""))
	require.NoError(t, err)
	got, err := newClient(t, shardcast.ClientOptions{Servers: []string{address}}).Download(t.Context(), "v1", "")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join("downloads", "download_v1.bin"), got.Path)
	assert.Empty(t, read(t, got.Path))
}

func TestClientRefusesOtherVersions(t *testing.T) {
	c := newClient(t, shardcast.ClientOptions{Servers: []string{"host.invalid"}})
	for _, version := range []string{
		"", "1", "v0", "v01", "v", "V1", "v-1", "newest", "LATEST", "../v1", "v1/",
		"v1234567890123456789",
	} {
		_, err := c.Download(t.Context(), version, filepath.Join(t.TempDir(), "copy"))
		assert.ErrorIs(t, err, shardcast.ErrOptions, version)
	}
}

// publisher is a log that publishes when there is a line about waiting.
type publisher struct{ publish func() }

func (p publisher) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "waiting for the version") {
		p.publish()
	}
	return len(line), nil
}

func TestClientWaitsForAVersion(t *testing.T) {
	o, address := newOrigin(t, t.TempDir())
	path := file(t, "the first")
	log := publisher{func() {
		_, err := o.Broadcast(t.Context(), path)
		assert.NoError(t, err)
	}}
	c := newClient(t, shardcast.ClientOptions{
		Servers: []string{address}, Wait: time.Hour, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	got, err := c.Download(t.Context(), "v1", filepath.Join(t.TempDir(), "copy"))
	require.NoError(t, err)
	assert.Equal(t, "the first", read(t, got.Path))
}

func TestClientErrors(t *testing.T) {
	o, address := newOrigin(t, t.TempDir())
	c := newClient(t, shardcast.ClientOptions{Servers: []string{address}})
	path := filepath.Join(t.TempDir(), "copy")
	_, err := c.Download(t.Context(), shardcast.Latest, path)
	require.ErrorIs(t, err, shardcast.ErrNoVersion, "nothing is published")
	_, err = o.Broadcast(t.Context(), file(t, "the first"))
	require.NoError(t, err)
	_, err = c.Download(t.Context(), "v2", path)
	require.ErrorIs(t, err, shardcast.ErrNoVersion)

	down := newPlain(t, nil)
	down.Close()
	unreachable := newClient(t, shardcast.ClientOptions{Servers: []string{down.URL}})
	_, err = unreachable.Download(t.Context(), "v1", path)
	require.ErrorIs(t, err, shardcast.ErrUnreachable)
	_, err = unreachable.List(t.Context())
	require.ErrorIs(t, err, shardcast.ErrUnreachable)

	lies := newPlain(
		t,
		map[string]string{"/distribution.txt": "v1: " + strings.Repeat("a", 64), "/v1/manifest.json": "{}"},
	)
	_, err = newClient(t, shardcast.ClientOptions{Servers: []string{lies.URL}}).Download(t.Context(), "v1", path)
	require.ErrorIs(t, err, shardcast.ErrIntegrity)
	assert.NoFileExists(t, path)
}

func TestClientListsVersionsWithTheirManifests(t *testing.T) {
	o, address := newOrigin(t, t.TempDir())
	_, err := o.Broadcast(t.Context(), file(t, "the first"))
	require.NoError(t, err)
	got, err := newClient(t, shardcast.ClientOptions{Servers: []string{address}}).List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, "v1", got[0].Name)
	assert.Equal(t, "weights.bin", got[0].File)
	assert.Equal(t, int64(9), got[0].Size)
	assert.Equal(t, 3, got[0].Shards)
}

func TestClientListsVersionsOfThePythonPackage(t *testing.T) {
	digest := strings.Repeat("a", 64)
	s := newPlain(t, map[string]string{"/distribution.txt": "v1: " + digest + "\nv2: " + digest + "|7\n"})
	got, err := newClient(t, shardcast.ClientOptions{Servers: []string{s.URL}}).List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []shardcast.Version{
		{
			Name:      "v1",
			Size:      -1,
			ShardSize: -1,
			Shards:    -1,
			Digest:    digest,
		},
		{Name: "v2", Size: -1, ShardSize: -1, Shards: 7, Digest: digest},
	}, got)
}

func TestClientListAsksEachServerOnce(t *testing.T) {
	s := newPlain(t, map[string]string{"/distribution.txt": "v1: " + strings.Repeat("a", 64)})
	_, err := newClient(t, shardcast.ClientOptions{Servers: []string{s.URL}}).List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"/distribution.txt": 1, "/v1/manifest.json": 1}, s.counts())
}

func TestClientTakesServersAsUsersWriteThem(t *testing.T) {
	o, address := newOrigin(t, t.TempDir())
	_, err := o.Broadcast(t.Context(), file(t, "the first"))
	require.NoError(t, err)
	_, port, ok := strings.Cut(address, ":")
	require.True(t, ok)
	for _, server := range []string{
		address, "http://" + address, "http://" + address + "/",
		"http://localhost:" + port,
	} {
		got, err := newClient(t, shardcast.ClientOptions{Servers: []string{server}}).List(t.Context())
		require.NoError(t, err, server)
		assert.Len(t, got, 1, server)
	}
}

func TestAClientCountsAndLimitsItsTrafficToPeers(t *testing.T) {
	const size, rate = 300_000, 1_000_000
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: t.TempDir(), Host: "127.0.0.1", Port: -1, Swarm: shardcast.SwarmOptions{Enabled: true},
	})
	require.NoError(t, err)
	address := serve(t, o)
	_, err = o.Broadcast(t.Context(), file(t, strings.Repeat("a", size)))
	require.NoError(t, err)

	limited := quick
	limited.LimitRate = rate
	c, err := shardcast.NewClient(shardcast.ClientOptions{
		Servers: []string{address}, Fetch: limited, Swarm: shardcast.SwarmOptions{Enabled: true},
	})
	require.NoError(t, err)
	defer func() { assert.NoError(t, c.Close()) }()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, ln) }()
	_, err = c.Download(t.Context(), "v1", filepath.Join(t.TempDir(), "got.bin"))
	require.NoError(t, err)
	assert.Zero(t, c.Given())

	r, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodGet,
		"http://"+ln.Addr().String()+"/v1/shard_001.bin",
		http.NoBody,
	)
	require.NoError(t, err)
	r.Header.Set("Shardcast-Swarm", "peer")
	began := time.Now()
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Len(t, got, size)
	assert.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond, "after what is sent at once it keeps to the rate")
	http.DefaultClient.CloseIdleConnections()
	// The last bytes count once they are sent; a client that ends does not wait for those who read.
	require.Eventually(t, func() bool { return c.Given() == size }, 10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	assert.EqualValues(t, size, c.Given())
}
