package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// withDelta adds a delta to v1, from v9.
func (p published) withDelta(t *testing.T) published {
	t.Helper()
	const size = 100
	m, err := shard.ParseManifest(bytes.NewReader(p.files["/v1/manifest.json"]))
	require.NoError(t, err)
	d := shard.DeltaManifest{
		Format: shard.DeltaFormat, BaseDigest: shard.Digest{9}, TargetDigest: m.Digest,
		Size: size, ShardSize: size, Digest: shard.Digest{8}, Shards: []shard.Digest{{8}},
	}
	text, err := d.Encode()
	require.NoError(t, err)
	p.files["/v1/from_v9/manifest.json"] = text
	m.Deltas = []shard.Delta{{Base: 9, BaseDigest: d.BaseDigest, Size: size, Manifest: digestOf(text)}}
	p.files["/v1/manifest.json"], err = m.Encode()
	require.NoError(t, err)
	return p
}

// awaiting is a place of v1 that may have its base.
type awaiting struct {
	*memory

	base  bool
	line  shard.Delta
	ended time.Time
	err   error
}

type emptyBase struct{ *bytes.Reader }

func (emptyBase) Close() error { return nil }

func (a *awaiting) WriteAt([]byte, int64) (int, error) { return 0, errors.New("nothing has come") }
func (a *awaiting) There() ([]disk.Range, error)       { return nil, nil }
func (a *awaiting) Relay() (line shard.Delta, ok bool) { return a.line, true }
func (a *awaiting) EndDelta(err error)                 { a.ended, a.err = time.Now(), err }
func (a *awaiting) Between(context.Context, int, shard.Manifest) (fetch.Sink, error) {
	return nil, errors.New("there is one delta")
}

func (a *awaiting) Base(context.Context, shard.Digest) (fetch.Base, error) {
	if a.base {
		return emptyBase{bytes.NewReader(nil)}, nil
	}
	return nil, nil //nolint:nilnil // as documented
}

func (a *awaiting) Delta(
	context.Context, shard.Delta, shard.DeltaManifest, []byte, int,
) (fetch.Sink, fetch.Audience, error) {
	return new(memory), nil, nil
}

func TestADeltaThatHangsIsGivenUp(t *testing.T) {
	const patience, late = 15 * time.Second, 5 * time.Second
	for name, tc := range map[string]struct {
		base  bool          // it is applied, and not for readers alone
		speed float64       // of the link, in bytes a second
		given time.Duration // when the delta is given up
	}{
		"it is applied": {true, 100 * megabyte, patience},
		"it is relayed": {false, 3 * megabyte / 60.0, patience},
		"it is relayed, and the version is there": {false, 100 * megabyte, late},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 3*megabyte, megabyte).withDelta(t), func(t *testing.T, n *network) {
				h := n.host("a", tc.speed).spoilWith(only("from_v9", by(http.HandlerFunc(hang))))
				pool := n.client(t, fetch.Options{Timeout: time.Hour}, 0, h)
				require.NoError(t, pool.Refresh(t.Context(), fetch.Soon))
				to := &awaiting{memory: new(memory), base: tc.base}
				start := time.Now()
				_, end, err := pool.Fetch(t.Context(), fetch.Task{
					Entry: pool.Offers()[0],
					Open: func(_ context.Context, m fetch.Manifest) (fetch.Sink, error) {
						to.line = m.Stated.Deltas[0]
						return to, nil
					},
					Rebuild:  func() fetch.Rebuilder { return to },
					Progress: func(fetch.Progress) {},
				})
				require.NoError(t, err)
				n.checkResult(t, to.memory, end)
				require.Error(t, to.err)
				assert.InDelta(t, tc.given.Seconds(), to.ended.Sub(start).Seconds(), 3)
			})
		})
	}
}
