package follow

import (
	"crypto/sha256"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// earlier makes an output directory with the record of a held tree of one file, v1/model, whose list has the
// text, as earlier releases did, and returns it open, with the tree.
func earlier(t *testing.T, text string) (*directory, record.File) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "v1", "model"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "v1", "model", "a"), []byte("abc"), 0o600))
	laid, err := tree.Lay([]tree.File{{Path: "a", Size: 3, Digest: sha256.Sum256([]byte("abc"))}})
	require.NoError(t, err)
	described, err := laid.Write(io.Discard)
	require.NoError(t, err)
	digest := shard.Digest{1}
	f := record.File{
		Version: 1, Path: "v1/model", Offered: digest, Delivered: true, Shards: 1,
		Manifest: shard.Manifest{Name: "model.tar", Size: laid.Size(), Digest: digest, Files: described},
	}
	d, err := openDirectory(t.Context(), Options{Dir: dir, Keep: 1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.close()) })
	d.record = record.Record{Last: 1, Held: []record.File{f}}
	name := filepath.Join(dir, record.Hidden, "v1-"+described.Digest.String()[:16]+earlierSuffix)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return d, f
}

const listOfA = `{"path":"a","size":3,"digest":` +
	`"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","modified":7}` + "\n"

func TestTheListOfAnEarlierReleaseIsTakenOver(t *testing.T) {
	d, f := earlier(t, listOfA)
	require.NoError(t, d.takeOver())
	l, err := d.readList(f)
	require.NoError(t, err)
	assert.Equal(t, 1, l.tree.Len())
	assert.Equal(t, []int64{7}, l.modified)
	left, err := filepath.Glob(d.full(record.Hidden + "/*" + earlierSuffix))
	require.NoError(t, err)
	assert.Empty(t, left)
	require.NoError(t, d.recover(t.Context()))
	assert.Len(t, d.record.Held, 1)
	removed, err := d.removeTree(t.Context(), f)
	require.NoError(t, err)
	assert.True(t, removed)
	assert.NoDirExists(t, d.full("v1/model"))
}

func TestTheDescriptionOfAnEarlierReleaseIsTakenOver(t *testing.T) {
	d, f := earlier(t, listOfA)
	old := d.full(describedName + "/v1")
	require.NoError(t, os.Mkdir(old, 0o700))
	m := f.Manifest
	m.ShardSize, m.Shards = m.Size, []shard.Digest{m.Digest}
	text, err := m.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(old, shard.ManifestName), text, 0o600))
	require.NoError(t, d.takeOver())
	assert.NoDirExists(t, old)
	assert.FileExists(t, d.full(described(f)+"/"+shard.ManifestName))
	_, err = d.readList(f)
	require.NoError(t, err)
}

func TestABadListOfAnEarlierReleaseLosesNoFile(t *testing.T) {
	for _, text := range []string{
		"{", "", `{"path":"../a","size":3}`, strings.Replace(listOfA, `"size":3`, `"size":4`, 1),
		listOfA + listOfA, "[]",
	} {
		d, _ := earlier(t, text)
		require.NoError(t, d.recover(t.Context()), text)
		assert.Empty(t, d.record.Held, text)
		assert.FileExists(t, d.full("v1/model/a"), text)
	}
}

// Where the times of files are not known, or not any more, their digests decide.
func TestWithoutTimesTheDigestsDecide(t *testing.T) {
	for _, times := range []string{"", "x\n", "-\n", "1\n2\n"} {
		d, f := earlier(t, listOfA)
		require.NoError(t, d.takeOver())
		require.NoError(t, os.WriteFile(d.full(described(f)+"/"+timesName), []byte(times), 0o600))
		l, err := d.readList(f)
		require.NoError(t, err)
		root, err := d.root.OpenRoot(f.Path)
		require.NoError(t, err)
		is, err := l.isIn(t.Context(), root, 0)
		require.NoError(t, err)
		assert.True(t, is, "%q", times)
		require.NoError(t, root.Close())
	}
}

func FuzzEarlierList(f *testing.F) {
	for _, text := range []string{
		"", "{}", "[]", `{"path":"../x"}`, `{"path":"a"}{"path":"a"}`, `{"path":"b"}{"path":"a"}`, listOfA,
		`{"path":"a","directory":true}{"path":"b","modified":-1}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseEarlier(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		require.Len(t, l.modified, l.tree.Len())
		for of := range l.tree.Files() {
			require.True(t, filepath.IsLocal(of.Path) && filepath.Clean(of.Path) == of.Path && of.Path != ".", of.Path)
		}
	})
}
