package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// changes are the content of all deltas.
const changes = "the changes"

// addDelta puts a delta of two shards into the draft, and into the manifest of its version.
func addDelta(t tb, d *store.Draft, m *shard.Manifest, base shard.Version) *store.Draft {
	t.Helper()
	delta, err := makeDelta(t.Context(), d, m, base)
	require.NoError(t, err)
	return delta
}

func makeDelta(ctx context.Context, d *store.Draft, m *shard.Manifest, base shard.Version) (*store.Draft, error) {
	delta, err := d.Delta(base)
	if err != nil {
		return nil, err
	}
	content, err := shard.Cut(ctx, strings.NewReader(changes),
		shard.Plan{Size: shard.UnknownSize, ShardSize: 8, Create: delta.Create})
	if err != nil {
		return nil, err
	}
	line, err := delta.EndDelta(shard.DeltaManifest{
		Format: shard.DeltaFormat, BaseDigest: sha256.Sum256([]byte(textOf(base))), TargetDigest: m.Digest,
		Size: content.Size, ShardSize: content.ShardSize, Digest: content.Digest, Shards: content.Shards,
	})
	m.Deltas = append(m.Deltas, line)
	return delta, err
}

func TestAKilledPublisherLeavesNoHalfDelta(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	for round := range 6 {
		killed(t, self, time.Duration(round)*700*time.Microsecond, victim+"="+dir, victimDeltas+"=1")
		st := open(t, dir, store.Origin)
		recoverCrash(t, st)
		held := offered(t, st)
		requireWhole(t, st, held...)
		for _, v := range held {
			if v > 1 {
				assert.Equal(t, changes, readDelta(t, st, v, v-1))
			}
			found, err := filepath.Glob(filepath.Join(dir, v.String(), "from_*"))
			require.NoError(t, err)
			assert.Len(t, found, min(int(v)-1, 1))
		}
	}
}

// withDelta publishes v1, and v2 with a delta from it.
func withDelta(t *testing.T, st *store.Store) {
	t.Helper()
	publish(t, st, 9)
	change(t, st, func(w *store.Writer) {
		d, m := draft(t, st, 2, textOf(2))
		addDelta(t, d, &m, 1)
		require.NoError(t, w.Publish(d, m))
	})
}

func readDelta(t *testing.T, st *store.Store, v, base shard.Version) (text string) {
	t.Helper()
	f, err := st.DeltaManifest(v, base)
	require.NoError(t, err)
	defer f.Close()
	m, err := shard.ParseDeltaManifest(f)
	require.NoError(t, err)
	for i := range m.Shards {
		f, done, err := st.DeltaShard(v, base, i+1)
		require.NoError(t, err)
		part, err := io.ReadAll(f)
		require.NoError(t, errors.Join(err, f.Close()))
		done()
		text += string(part)
	}
	return text
}

func TestADeltaIsPublishedWithItsVersion(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	withDelta(t, st)
	assert.Equal(t, changes, readDelta(t, st, 2, 1))
	m, err := shard.ParseManifest(strings.NewReader(read(t, dir, "v2/manifest.json")))
	require.NoError(t, err)
	require.Len(t, m.Deltas, 1)
	assert.Equal(t, shard.Digest(sha256.Sum256([]byte(read(t, dir, "v2/from_v1/manifest.json")))), m.Deltas[0].Manifest)
	assert.EqualValues(t, len(changes), m.Deltas[0].Size)
	_, err = st.DeltaManifest(2, 3)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = st.DeltaShard(2, 1, 3)
	require.ErrorIs(t, err, fs.ErrNotExist)

	usage, err := st.Usage()
	require.NoError(t, err)
	numbers, err := st.Shards(2)
	require.NoError(t, err)
	assert.EqualValues(t, 2*len(numbers), usage.Shards, "those of deltas are no shards of versions")
}

func TestADeltaGoesWithItsVersionAndNotWithItsBase(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	withDelta(t, st)
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Withdraw(1)) })
	assert.Equal(t, changes, readDelta(t, st, 2, 1))

	keeping(t, st, 1)
	publish(t, st, 1)
	assert.Equal(t, []shard.Version{3}, offered(t, st), "a base keeps no version, nor does a delta")
	_, err := st.DeltaManifest(2, 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestARetiredVersionsDeltaStaysForItsReaders(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	claim(t, st)
	withDelta(t, st)
	publish(t, st, 1)
	assert.Equal(t, changes, readDelta(t, st, 2, 1))
}

func TestADeltaThatIsNotWholeOrNotNamedIsNotPublished(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string, m *shard.Manifest){
		"a shard is missing": func(t *testing.T, dir string, _ *shard.Manifest) {
			require.NoError(t, os.Remove(filepath.Join(dir, "shard_002.bin")))
		},
		"no manifest": func(t *testing.T, dir string, _ *shard.Manifest) {
			require.NoError(t, os.Remove(filepath.Join(dir, "manifest.json")))
		},
		"another manifest": func(_ *testing.T, _ string, m *shard.Manifest) { m.Deltas[0].Manifest[0]++ },
		"a bad manifest": func(t *testing.T, dir string, _ *shard.Manifest) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{}"), 0o600))
		},
		"it is not named": func(_ *testing.T, _ string, m *shard.Manifest) { m.Deltas = nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Middle)
			d, m := draft(t, st, 2, textOf(2))
			addDelta(t, d, &m, 1)
			spoil(t, filepath.Join(dir, ".shardcast", "drafts", "v2", "from_v1"), &m)
			change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
			assert.Equal(t, textOf(2), strings.Join([]string{
				read(t, dir, "v2/shard_001.bin"), read(t, dir, "v2/shard_002.bin"), read(t, dir, "v2/shard_003.bin"),
			}, ""))
			_, err := os.Lstat(filepath.Join(dir, "v2", "from_v1"))
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestAPublishedDeltaHasNoOtherFiles(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	d, m := draft(t, st, 2, textOf(2))
	addDelta(t, d, &m, 1)
	write(t, dir, ".shardcast/drafts/v2/from_v1/shard_001.bin.part", "half written")
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	_, err := os.Lstat(filepath.Join(dir, "v2", "from_v1", "shard_001.bin.part"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, changes, readDelta(t, st, 2, 1))
}

func TestARepublishedVersionHasItsDeltas(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	withDelta(t, st)
	change(t, st, func(w *store.Writer) {
		v, err := w.Republish(2)
		require.NoError(t, err)
		assert.Equal(t, shard.Version(3), v)
	})
	assert.Equal(t, read(t, dir, "v2/manifest.json"), read(t, dir, "v3/manifest.json"))
	assert.Equal(t, changes, readDelta(t, st, 3, 1))

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "v3", "from_v1")))
	change(t, st, func(w *store.Writer) {
		_, err := w.Republish(3)
		require.NoError(t, err, "a middle may have versions without their deltas")
	})
}

func TestADraftsDeltaIsReadWhereItIsPublished(t *testing.T) {
	st := open(t, t.TempDir(), store.Middle)
	d, m := draft(t, st, 2, textOf(2))
	delta := addDelta(t, d, &m, 1)
	before, err := delta.Read(2)
	require.NoError(t, err)
	require.NoError(t, before.Close())
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	after, err := delta.Read(2)
	require.NoError(t, err)
	text, err := io.ReadAll(after)
	require.NoError(t, errors.Join(err, after.Close()))
	assert.Equal(t, "ges", string(text))
}

func TestAStreamIsReadAtAnyPlace(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	text := make([]byte, 1000)
	for i := range text {
		text[i] = byte(rand.N(256))
	}
	d, m := draft(t, st, 1, string(text))
	inDraft := d.Stream(m)
	whole := make([]byte, len(text))
	_, err := inDraft.ReadAt(whole, 0)
	require.NoError(t, err)
	assert.Equal(t, text, whole)
	inDraft.Close()
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })

	s := st.Stream(1, m)
	assert.EqualValues(t, len(text), s.Size())
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for range 300 {
				from := rand.N(len(text))
				part := make([]byte, rand.N(100))
				n, err := s.ReadAt(part, int64(from))
				want := text[from:min(len(text), from+len(part))]
				if n == len(part) && err == nil || n < len(part) && errors.Is(err, io.EOF) {
					err = nil
				} else {
					err = errors.Join(errors.New("not as an io.ReaderAt"), err)
				}
				if !bytes.Equal(want, part[:n]) || err != nil {
					return errors.Join(errors.New("other bytes"), err)
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	_, err = s.ReadAt(make([]byte, 1), -1)
	require.Error(t, err)
	s.Close()

	s = st.Stream(1, m)
	defer s.Close()
	require.NoError(t, os.Truncate(filepath.Join(dir, "v1", "shard_002.bin"), 10))
	_, err = s.ReadAt(whole, 0)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, os.Remove(filepath.Join(dir, "v1", "shard_001.bin")))
	_, err = st.Stream(1, m).ReadAt(whole, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
