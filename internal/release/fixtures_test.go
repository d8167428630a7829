package release_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
)

var issued = time.Date(2026, time.November, 29, 0, 10, 0, 0, time.UTC)

// example is the release of the golden file.
func example() release.Release {
	return release.Release{
		Feed: "weights.example.org/llama-rl", Epoch: 3, Seq: 1_764_375_000_123,
		Issued: issued, Expires: issued.Add(7 * 24 * time.Hour),
		Entries: []release.Entry{
			described(41, 15_032_385_536), {Version: 42, Withdrawn: true}, described(43, 0),
		},
	}
}

// described is an entry with digests that differ from version to version.
func described(v shard.Version, size int64) release.Entry {
	return release.Entry{
		Version: v, Size: size,
		Digest:   sha256.Sum256([]byte("stream of " + v.String())),
		Manifest: sha256.Sum256([]byte("manifest of " + v.String())),
	}
}

// key reads a private key of testdata, which minisign has made.
func key(t testing.TB, name string) release.PrivateKey {
	t.Helper()
	k, err := release.ReadPrivateKey(filepath.Join("testdata", name), noPassword)
	require.NoError(t, err)
	return k
}

func noPassword() (string, error) { return "", errors.New("this key needs no password") }

// sign signs a release by the key of the golden file.
func sign(t testing.TB, r release.Release) release.Signed {
	t.Helper()
	signed, err := r.Sign(key(t, "minisign.key"))
	require.NoError(t, err)
	return signed
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return text
}
