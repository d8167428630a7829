package shardcast_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestTrustOptionsGoTogether(t *testing.T) {
	_, key := signing(t)
	public := []string{key.Public()}
	for name, trust := range map[string]shardcast.TrustOptions{
		"a key without a feed":   {Keys: public},
		"a feed without a key":   {Feed: "test"},
		"a state without a key":  {StateDir: t.TempDir()},
		"no key":                 {Keys: []string{"RWnothing"}, Feed: "test"},
		"a feed that cannot be":  {Keys: public, Feed: "a feed"},
		"one of two keys is not": {Keys: append(public, "missing.pub"), Feed: "test"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shardcast.NewClient(shardcast.ClientOptions{Servers: []string{"host"}, Trust: trust})
			require.ErrorIs(t, err, shardcast.ErrOptions)
			require.ErrorContains(t, err, "Trust.")
			_, err = shardcast.NewMiddle(shardcast.MiddleOptions{
				Upstreams: []string{"host"}, Trust: trust, DataDir: t.TempDir(),
			})
			require.ErrorIs(t, err, shardcast.ErrOptions)
		})
	}
}

func TestAClientWithAKeyTakesThePublishersWordAlone(t *testing.T) {
	opts, key := signing(t)
	opts.Host, opts.Port, opts.Sign.Feed = "127.0.0.1", -1, "test"
	o, err := shardcast.NewOrigin(opts)
	require.NoError(t, err)
	address := serve(t, o)
	trusting := func(feed string) *shardcast.Client {
		return newClient(t, shardcast.ClientOptions{
			Servers: []string{address}, OutputDir: t.TempDir(),
			Trust: shardcast.TrustOptions{Keys: []string{key.Public()}, Feed: feed, StateDir: t.TempDir()},
		})
	}
	c := trusting("test")
	_, err = c.Release()
	require.ErrorIs(t, err, shardcast.ErrNotTrusted, "before any was published")
	_, err = o.Broadcast(t.Context(), file(t, "signed"))
	require.NoError(t, err)

	versions, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, versions, 1)
	assert.True(t, versions[0].Signed)
	release, err := c.Release()
	require.NoError(t, err)
	assert.Equal(t, "test", release.Feed)
	assert.Equal(t, []string{"v1"}, release.Versions)

	got, err := c.Download(t.Context(), shardcast.Latest, filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	assert.Equal(t, shardcast.VerifiedSigned, got.Verified)
	assert.True(t, got.Version.Signed)
	assert.Equal(t, "signed", read(t, got.Path))
	var out bytes.Buffer
	got, err = c.DownloadTo(t.Context(), "v1", &out)
	require.NoError(t, err)
	assert.Equal(t, shardcast.VerifiedSigned, got.Verified)
	assert.Equal(t, "signed", out.String())

	_, err = trusting("another").Download(t.Context(), "v1", filepath.Join(t.TempDir(), "out"))
	require.ErrorIs(t, err, shardcast.ErrNotTrusted)
	_, err = newClient(t, shardcast.ClientOptions{Servers: []string{address}}).Release()
	require.ErrorIs(t, err, shardcast.ErrOptions)
}
