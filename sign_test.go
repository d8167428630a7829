package shardcast_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

// signing returns options of a data directory that is signed, and its key.
func signing(t *testing.T) (shardcast.OriginOptions, *shardcast.SignKey) {
	t.Helper()
	key, public, err := shardcast.GenerateSignKey(filepath.Join(t.TempDir(), "publisher.key"), "")
	require.NoError(t, err)
	assert.Equal(t, "publisher.pub", filepath.Base(public))
	return shardcast.OriginOptions{
		DataDir: filepath.Join(t.TempDir(), "data"),
		Sign: shardcast.SignOptions{
			Key: key, Feed: "weights.example.org/llama", StateDir: filepath.Join(t.TempDir(), "state"),
		},
	}, key
}

func originOf(t *testing.T, opts shardcast.OriginOptions) *shardcast.Origin {
	t.Helper()
	o, err := shardcast.NewOrigin(opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, o.Close()) })
	return o
}

func TestAnOriginSignsWhatItPublishes(t *testing.T) {
	t.Parallel()
	opts, key := signing(t)
	o := originOf(t, opts)
	for _, text := range []string{"one", "two", "three"} {
		_, err := o.Broadcast(t.Context(), file(t, text))
		require.NoError(t, err)
	}
	require.NoError(t, o.Withdraw(t.Context(), "v2"))
	again, err := o.Republish(t.Context(), "v1")
	require.NoError(t, err)
	assert.Equal(t, "v4", again)
	r, err := shardcast.HeldRelease(opts.DataDir)
	require.NoError(t, err)
	assert.Equal(t, "weights.example.org/llama", r.Feed)
	assert.Equal(t, uint64(1), r.Epoch)
	assert.Equal(t, []string{"v1", "v3", "v4"}, r.Versions)
	assert.Equal(t, []string{"v2"}, r.Withdrawn)
	assert.Equal(t, shardcast.DefaultExpires, r.Expires.Sub(r.Issued))
	assert.WithinDuration(t, time.Now(), r.Issued, time.Hour)
	held, err := shardcast.HeldVersions(opts.DataDir)
	require.NoError(t, err)
	for _, v := range held {
		assert.True(t, v.Signed, v.Version.Name)
	}
	verified, wrong, err := shardcast.VerifyHeldRelease(opts.DataDir, key.Public())
	require.NoError(t, err)
	assert.Empty(t, wrong)
	assert.Equal(t, r, verified)
	_, other := signing(t)
	_, wrong, err = shardcast.VerifyHeldRelease(opts.DataDir, other.Public())
	require.NoError(t, err)
	assert.Len(t, wrong, 1)

	// Without the key nothing is published, and with another one neither.
	keyless := originOf(t, shardcast.OriginOptions{DataDir: opts.DataDir})
	_, err = keyless.Broadcast(t.Context(), file(t, "unsigned"))
	require.ErrorIs(t, err, shardcast.ErrSigned)
	require.ErrorIs(t, keyless.Withdraw(t.Context(), "v3"), shardcast.ErrSigned)
	_, err = keyless.Sign(t.Context(), shardcast.Renewal{})
	require.ErrorIs(t, err, shardcast.ErrSigned)
	opts.Sign.Key = other
	_, err = originOf(t, opts).Broadcast(t.Context(), file(t, "by another"))
	require.ErrorIs(t, err, shardcast.ErrOtherKey)
	opts.Sign.PreviousKeys = []string{key.Public()}
	r, err = originOf(t, opts).Sign(t.Context(), shardcast.Renewal{})
	require.NoError(t, err)
	assert.Equal(t, []string{"v1", "v3", "v4"}, r.Versions)
}

func TestSigningTakesInWhatIsRight(t *testing.T) {
	t.Parallel()
	opts, _ := signing(t)
	unsigned := originOf(t, shardcast.OriginOptions{DataDir: opts.DataDir})
	for _, text := range []string{"one", "two"} {
		_, err := unsigned.Broadcast(t.Context(), file(t, text))
		require.NoError(t, err)
	}
	_, err := shardcast.HeldRelease(opts.DataDir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	o := originOf(t, opts)
	_, err = o.Broadcast(t.Context(), file(t, "three"))
	require.ErrorIs(t, err, shardcast.ErrUnsigned)
	_, err = o.Sign(t.Context(), shardcast.Renewal{Versions: []string{"v1", "v9"}})
	require.ErrorIs(t, err, shardcast.ErrNoVersion)
	shard := filepath.Join(opts.DataDir, "v2", "shard_001.bin")
	require.NoError(t, os.WriteFile(shard, []byte("TWO"), 0o600))
	_, err = o.Sign(t.Context(), shardcast.Renewal{Adopt: true})
	require.ErrorIs(t, err, shardcast.ErrIntegrity)
	require.ErrorContains(t, err, "v2/shard_001.bin")
	require.NoError(t, os.WriteFile(shard, []byte("two"), 0o600))
	r, err := o.Sign(t.Context(), shardcast.Renewal{Adopt: true})
	require.NoError(t, err)
	assert.Equal(t, []string{"v1", "v2"}, r.Versions)
	_, err = o.Sign(t.Context(), shardcast.Renewal{Adopt: true})
	require.ErrorIs(t, err, shardcast.ErrSigned)
	next, err := o.Sign(t.Context(), shardcast.Renewal{NewEpoch: true})
	require.NoError(t, err)
	assert.Equal(t, uint64(2), next.Epoch)
	assert.Greater(t, next.Seq, r.Seq)
}

func TestAReleaseIsRenewedUntilTheEnd(t *testing.T) {
	t.Parallel()
	opts, _ := signing(t)
	o := originOf(t, opts)
	_, err := o.Broadcast(t.Context(), file(t, "one"))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- o.KeepSigned(ctx, shardcast.Renewal{}, time.Millisecond) }()
	before, err := shardcast.HeldRelease(opts.DataDir)
	require.NoError(t, err)
	for renewed := 0; renewed < 3; {
		now, err := shardcast.HeldRelease(opts.DataDir)
		require.NoError(t, err)
		if now.Seq > before.Seq {
			renewed++
		}
		before = now
	}
	stop()
	require.NoError(t, <-ended)
	require.ErrorIs(t, o.KeepSigned(t.Context(), shardcast.Renewal{}, 0), shardcast.ErrOptions)
}

func TestOptionsOfSigningAreChecked(t *testing.T) {
	t.Parallel()
	opts, key := signing(t)
	for name, sign := range map[string]shardcast.SignOptions{
		"Sign.Feed":         {Key: key, Feed: "two words"},
		"Sign.Expires":      {Key: key, Feed: "f", Expires: time.Millisecond},
		"Sign.PreviousKeys": {Key: key, Feed: "f", PreviousKeys: []string{"missing.pub"}},
		"Sign.Key":          {Feed: "f"},
	} {
		_, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: opts.DataDir, Sign: sign})
		require.ErrorIs(t, err, shardcast.ErrOptions, name)
		require.ErrorContains(t, err, name)
	}
	opts.Sign.Feed = ""
	_, err := originOf(t, opts).Broadcast(t.Context(), file(t, "one"))
	require.ErrorIs(t, err, shardcast.ErrOptions, "the first release needs a feed")
	require.ErrorContains(t, err, "Sign.Feed")
	require.ErrorIs(t, shardcast.CheckFeed(""), shardcast.ErrOptions)
	_, err = originOf(t, opts).Sign(t.Context(), shardcast.Renewal{Versions: []string{"1"}})
	require.ErrorIs(t, err, shardcast.ErrOptions)
	_, err = originOf(t, opts).Sign(t.Context(), shardcast.Renewal{Versions: []string{"v1"}, Adopt: true})
	require.ErrorIs(t, err, shardcast.ErrOptions)
}

func TestASignKeyIsReadWithItsPassword(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "publisher.key")
	key, public, err := shardcast.GenerateSignKey(name, "")
	require.NoError(t, err)
	again, err := shardcast.ReadSignKey(name, nil)
	require.NoError(t, err)
	assert.Equal(t, key.Public(), again.Public())
	_, _, err = shardcast.GenerateSignKey(name, "")
	require.ErrorContains(t, err, public+" exists already", "no key is replaced")
	require.NoError(t, os.Remove(public))
	_, _, err = shardcast.GenerateSignKey(name, "")
	require.ErrorIs(t, err, fs.ErrExist)
	require.NoFileExists(t, public)
	require.NoError(t, os.Remove(name))
	_, err = shardcast.ReadSignKey(name, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, shardcast.ErrPassword)
}
