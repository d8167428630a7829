package origin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/synthetic"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// deltaShard is the size of shards where deltas are made.
const deltaShard = 100_000 // bytes

// withDeltas broadcasts path with deltas from so many bases.
func withDeltas(t *testing.T, st *store.Store, path string, bases int) origin.Published {
	t.Helper()
	o := origin.New(st, deltaShard, 0, slog.New(slog.DiscardHandler))
	got, err := o.BroadcastAs(t.Context(), path, origin.Options{DeltaBases: bases})
	require.NoError(t, err)
	return got
}

// memory is written to.
type memory []byte

func (m memory) WriteAt(p []byte, offset int64) (int, error) { return copy(m[offset:], p), nil }

// applied returns what the delta from base makes of base.
func applied(t *testing.T, st *store.Store, v, base shard.Version) []byte {
	t.Helper()
	m, _ := published(t, st, v)
	before, old := published(t, st, base)
	f, err := st.DeltaManifest(v, base)
	require.NoError(t, err)
	defer f.Close()
	text := sha256.New()
	d, err := shard.ParseDeltaManifest(io.TeeReader(f, text))
	require.NoError(t, err)
	assert.Equal(t, before.Digest, d.BaseDigest)
	assert.Equal(t, m.Digest, d.TargetDigest)
	assert.Equal(t, shard.DeltaFormat, d.Format)
	assert.Contains(t, m.Deltas, shard.Delta{
		Base: base, BaseDigest: d.BaseDigest, Size: d.Size, Manifest: shard.Digest(text.Sum(nil)),
	})
	var encoded []byte
	for i, want := range d.Shards {
		s, done, err := st.DeltaShard(v, base, i+1)
		require.NoError(t, err)
		part, err := io.ReadAll(s)
		require.NoError(t, errors.Join(err, s.Close()))
		done()
		assert.Equal(t, want, shard.Digest(sha256.Sum256(part)))
		encoded = append(encoded, part...)
	}
	assert.Len(t, encoded, int(d.Size))
	assert.True(t, strings.HasPrefix(string(encoded), shard.DeltaFormat+"\n"))
	r, err := delta.NewReader(bytes.NewReader(encoded))
	require.NoError(t, err)
	made := make(memory, r.Header().TargetSize)
	require.NoError(t, r.Apply(t.Context(), bytes.NewReader(old), made, delta.Progress{}))
	return made
}

func TestABroadcastMakesADeltaFromTheNewestVersion(t *testing.T) {
	st := open(t, t.TempDir())
	old := synthetic.BF16(1, 4<<20)
	first := withDeltas(t, st, file(t, old), 1)
	assert.Empty(t, first.Deltas, "there is no version before")
	now := synthetic.Step(2, old, 2, 0.01)
	got := withDeltas(t, st, file(t, now), 1)
	require.Len(t, got.Deltas, 1)
	assert.Equal(t, got.Manifest.Deltas[0], got.Deltas[0].Line)
	assert.Less(t, got.Deltas[0].Line.Size, int64(len(now)/100))
	assert.Positive(t, got.Deltas[0].Elapsed)
	assert.Equal(t, now, applied(t, st, 2, 1))
}

func TestASmallDeltaHasSomeShards(t *testing.T) {
	st := open(t, t.TempDir())
	old := content(1, 1<<20)
	withDeltas(t, st, file(t, old), 1)
	now := slices.Concat(old, content(2, 200_000))
	withDeltas(t, st, file(t, now), 1)
	assert.Equal(t, now, applied(t, st, 2, 1))
	names, err := filepath.Glob(filepath.Join(st.Dir(), "v2", "from_v1", "shard_*.bin"))
	require.NoError(t, err)
	assert.Len(t, names, 4)
}

func TestDeltasAreMadeFromAsManyVersionsAsAreAskedFor(t *testing.T) {
	st := open(t, t.TempDir())
	state := synthetic.BF16(1, 1<<20)
	for range 3 {
		withDeltas(t, st, file(t, state), -1)
		state = synthetic.Step(2, state, 2, 0.01)
	}
	last := withDeltas(t, st, file(t, state), 2)
	require.Len(t, last.Deltas, 2)
	assert.Equal(t, shard.Version(3), last.Deltas[0].Line.Base)
	assert.Equal(t, shard.Version(2), last.Deltas[1].Line.Base)
	assert.Equal(t, state, applied(t, st, 4, 3))
	assert.Equal(t, state, applied(t, st, 4, 2))

	withDeltas(t, st, file(t, state), -1)
	again := withDeltas(t, st, file(t, synthetic.Step(3, state, 2, 0.01)), 2)
	assert.Equal(t, shard.Version(5), again.Deltas[0].Line.Base)
	assert.Equal(t, shard.Version(3), again.Deltas[1].Line.Base, "v4 is the same as v5")
}

func TestTheDirectorySaysFromHowManyVersionsDeltasAreMade(t *testing.T) {
	st := open(t, t.TempDir())
	_, _, err := st.Change(t.Context(), func(s *policy.Settings) { s.DeltaBases = 1 })
	require.NoError(t, err)
	state := synthetic.BF16(1, 1<<20)
	withDeltas(t, st, file(t, state), 0)
	state = synthetic.Step(2, state, 2, 0.01)
	assert.Len(t, withDeltas(t, st, file(t, state), 0).Deltas, 1)
	state = synthetic.Step(3, state, 2, 0.01)
	assert.Empty(t, withDeltas(t, st, file(t, state), -1).Deltas)

	_, _, err = st.Change(t.Context(), func(s *policy.Settings) { s.DeltaBases = shard.MaxDeltas + 1 })
	require.ErrorContains(t, err, "delta_bases is 65, want 0 to 64")
}

// partly is 1 MiB of which the first equal bytes are those of content(1, 1<<20).
func partly(equal int) []byte {
	return slices.Concat(content(1, 1<<20)[:equal], content(2, 1<<20)[equal:])
}

func TestADeltaOfMoreThanHalfOfItsVersionIsNotPublished(t *testing.T) {
	for name, tc := range map[string]struct {
		old, now []byte
		want     int
	}{
		"nothing in common":    {content(1, 1<<20), content(2, 1<<20), 0},
		"half and a bit":       {content(1, 1<<20), partly(500_000), 0},
		"a bit less than half": {content(1, 1<<20), partly(550_000), 1},
		"smaller than a list":  {content(1, 600), content(1, 601), 0},
		"the same":             {content(1, 9000), content(1, 9000), 0},
		"emptied":              {content(1, 9000), nil, 0},
		"from nothing":         {nil, content(1, 9000), 0},
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, t.TempDir())
			withDeltas(t, st, file(t, tc.old), 1)
			got := withDeltas(t, st, file(t, tc.now), 1)
			assert.Len(t, got.Deltas, tc.want)
			left, err := filepath.Glob(filepath.Join(st.Dir(), "v2", "from_*"))
			require.NoError(t, err)
			assert.Len(t, left, tc.want)
			if tc.want > 0 {
				assert.Equal(t, tc.now, applied(t, st, 2, 1))
			}
		})
	}
}

func TestAVersionIsPublishedAlsoWhereNoDeltaCanBeMade(t *testing.T) {
	st := open(t, t.TempDir())
	state := synthetic.BF16(1, 1<<20)
	withDeltas(t, st, file(t, state), 1)
	require.NoError(t, os.Remove(filepath.Join(st.Dir(), "v1", "shard_007.bin")))
	var log bytes.Buffer
	o := origin.New(st, deltaShard, 0, slog.New(slog.NewTextHandler(&log, nil)))
	now := synthetic.Step(2, state, 2, 0.01)
	got, err := o.BroadcastAs(t.Context(), file(t, now), origin.Options{DeltaBases: 1})
	require.NoError(t, err)
	assert.Empty(t, got.Deltas)
	assert.Contains(t, log.String(), `level=WARN msg="delta not made" version=v2 base=v1 err="base: shard_007.bin:`)
	_, data := published(t, st, 2)
	assert.Equal(t, now, data)
	left, err := filepath.Glob(filepath.Join(st.Dir(), "v2", "from_*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// cancelling is a log that ends a broadcast when the first delta has been made.
type cancelling struct {
	slog.Handler

	cancel context.CancelCauseFunc
}

func (c cancelling) Enabled(context.Context, slog.Level) bool { return true }

func (c cancelling) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "delta made" {
		c.cancel(io.ErrClosedPipe)
	}
	return nil
}

func TestABroadcastThatEndsWhileItComparesLeavesNothing(t *testing.T) {
	st := open(t, t.TempDir())
	state := synthetic.BF16(1, 1<<20)
	withDeltas(t, st, file(t, state), -1)
	withDeltas(t, st, file(t, synthetic.Step(2, state, 2, 0.01)), -1)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o := origin.New(st, deltaShard, 0, slog.New(cancelling{slog.DiscardHandler, cancel}))
	_, err := o.BroadcastAs(ctx, file(t, synthetic.Step(3, state, 2, 0.01)), origin.Options{DeltaBases: 2})
	require.ErrorIs(t, err, io.ErrClosedPipe)
	left, err := filepath.Glob(filepath.Join(st.Dir(), ".shardcast", "drafts", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.False(t, st.Holds(3))
}

func TestADeltaOfATreeFollowsItsFiles(t *testing.T) {
	st := open(t, t.TempDir())
	root := filepath.Join(t.TempDir(), "step")
	put := func(name string, data []byte) {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	weights, other := synthetic.BF16(1, 1<<20), content(3, 700_001)
	put("m/weights.bin", weights)
	put("z/other.bin", other)
	withDeltas(t, st, root, 1)
	put("a/new.txt", content(4, 999))
	put("m/weights.bin", synthetic.Step(2, weights, 2, 0.01))
	require.NoError(t, os.Rename(filepath.Join(root, "z"), filepath.Join(root, "b")))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "empty"), 0o700))
	got := withDeltas(t, st, root, 1)
	require.Len(t, got.Deltas, 1)
	assert.Less(t, got.Deltas[0].Line.Size, int64(20_000))
	_, now := published(t, st, 2)
	assert.Equal(t, now, applied(t, st, 2, 1))

	withDeltas(t, st, file(t, weights), 1)
	_, now = published(t, st, 3)
	assert.Equal(t, now, applied(t, st, 3, 2), "a file that was in a tree before")
}

func TestADeltaNamesNoVersionTooMany(t *testing.T) {
	st := open(t, t.TempDir())
	state := synthetic.BF16(1, 1<<20)
	withDeltas(t, st, file(t, state), 1)
	require.NoError(t, os.Remove(filepath.Join(st.Dir(), "v1", "manifest.json")))
	assert.Empty(t, withDeltas(t, st, file(t, synthetic.Step(2, state, 2, 0.01)), 1).Deltas,
		"as one of the Python package")
}
