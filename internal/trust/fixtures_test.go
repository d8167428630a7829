package trust_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const feed = "weights.example.org/llama"

var start = time.Date(2026, time.November, 29, 12, 0, 0, 0, time.UTC)

// newKey returns a new key of a publisher.
func newKey(t testing.TB) release.PrivateKey {
	t.Helper()
	k, err := release.GenerateKey()
	require.NoError(t, err)
	return k
}

// list is a release of a feed, issued so many minutes after the start as its number says, that
// lists the versions 1 to seq and expires an hour later.
func list(epoch, seq uint64) release.Release {
	r := release.Release{
		Feed: feed, Epoch: epoch, Seq: seq, Issued: start.Add(time.Duration(seq) * time.Minute),
	}
	r.Expires = r.Issued.Add(time.Hour)
	for v := range min(seq, 100) {
		r.Entries = append(r.Entries, release.Entry{Version: shard.Version(v + 1), Size: 1})
	}
	return r
}

func sign(t testing.TB, k release.PrivateKey, r release.Release) []byte {
	t.Helper()
	signed, err := r.Sign(k)
	require.NoError(t, err)
	return signed.Bytes()
}

// reader is a reader's Keeper with its log, state directory and clock.
type reader struct {
	*trust.Keeper
	dir  string
	keys []release.PrivateKey
	log  *bytes.Buffer
	now  *time.Time
}

// open returns a reader that pins keys, with an empty state directory.
func open(t *testing.T, keys ...release.PrivateKey) reader {
	t.Helper()
	return openIn(t, filepath.Join(t.TempDir(), "state"), keys...)
}

func openIn(t *testing.T, dir string, keys ...release.PrivateKey) reader {
	t.Helper()
	now := start.Add(10 * time.Minute)
	r := reader{dir: dir, keys: keys, log: new(bytes.Buffer), now: &now}
	opts := trust.Options{
		Feed: feed, Dir: dir, Now: func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	for _, k := range keys {
		opts.Keys = append(opts.Keys, k.Public())
	}
	var err error
	r.Keeper, err = trust.Open(opts)
	require.NoError(t, err)
	return r
}

// again returns the reader after a restart.
func (r reader) again(t *testing.T) reader {
	t.Helper()
	return openIn(t, r.dir, r.keys...)
}

// accepts holds that an offer becomes the newest release.
func (r reader) accepts(t *testing.T, file []byte) {
	t.Helper()
	news, err := r.Offer(t.Context(), "http://a", file)
	require.NoError(t, err)
	require.True(t, news)
	r.knows(t, file)
}

// ignores holds that an offer changes nothing, and is no error.
func (r reader) ignores(t *testing.T, file []byte) {
	t.Helper()
	before, _ := r.Newest()
	news, err := r.Offer(t.Context(), "http://a", file)
	require.NoError(t, err)
	require.False(t, news)
	r.knows(t, before.Bytes())
}

// refuses holds that an offer changes nothing, and that the error and the log say why.
func (r reader) refuses(t *testing.T, file []byte, says string) {
	t.Helper()
	before, _ := r.Newest()
	news, err := r.Offer(t.Context(), "http://bad", file)
	require.ErrorIs(t, err, trust.ErrNotTrusted)
	require.ErrorContains(t, err, says)
	require.ErrorContains(t, err, "http://bad")
	require.False(t, news)
	require.Contains(t, r.log.String(), `level=WARN msg="release refused" upstream=http://bad err="`)
	r.knows(t, before.Bytes())
}

// knows holds that the newest release is this one, with its bytes.
func (r reader) knows(t *testing.T, file []byte) {
	t.Helper()
	newest, ok := r.Newest()
	require.Equal(t, len(file) > 0, ok)
	require.Equal(t, string(file), string(newest.Bytes()))
}

// files returns the names in a directory, without those of locks.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}
