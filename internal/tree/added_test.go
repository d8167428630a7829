package tree_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// withAdded makes a directory of a, z/z and model.sig in it as given, and adds that to its tree.
func withAdded(t *testing.T, text string) (dir string, s *tree.Source) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "z"), 0o755))
	for _, name := range []string{"a", "z/z"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	s, err := tree.Open(dir, tree.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Add("model.sig", []byte(text)))
	return dir, s
}

func TestAFileIsAddedToATreeAtItsPlace(t *testing.T) {
	t.Parallel()
	for i, text := range []string{"", "short", strings.Repeat("long", 1000), "", "apart"} {
		_, s := withAdded(t, text)
		digests := func([]byte) {} // computed by Read
		if i > 2 {
			digests = s.Apart()
		}
		stream, err := io.ReadAll(io.MultiReader(io.LimitReader(s, 700), s))
		require.NoError(t, err)
		digests(stream)
		assert.Len(t, stream, int(s.Size()))
		read, err := s.Tree()
		require.NoError(t, err)
		found := make(map[string]string)
		var names []string
		for r := tar.NewReader(bytes.NewReader(stream)); ; {
			h, err := r.Next()
			if err == io.EOF { //nolint:errorlint // as archive/tar returns it
				break
			}
			require.NoError(t, err)
			content, err := io.ReadAll(r)
			require.NoError(t, err)
			found[h.Name] = string(content)
			names = append(names, h.Name)
		}
		assert.Equal(t, []string{"a", "model.sig", "z/z"}, names)
		assert.Equal(t, map[string]string{"a": "a", "model.sig": text, "z/z": "z/z"}, found)
		for f := range read.Files() {
			assert.Equal(t, shard.Digest(sha256.Sum256([]byte(found[f.Path]))), f.Digest, f.Path)
		}
	}
}

func TestAnAddedFileIsNotInTheDirectory(t *testing.T) {
	t.Parallel()
	dir, s := withAdded(t, "signature")
	require.ErrorIs(t, s.Add("a", nil), tree.ErrUnpublishable)
	require.ErrorContains(t, s.Add("a", nil), "--exclude")
	require.ErrorIs(t, s.Add("a/b", nil), tree.ErrUnpublishable, "a is a file")
	_, err := io.Copy(io.Discard, s)
	require.NoError(t, err)
	_, err = s.Tree()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.sig"), []byte("signature"), 0o600))
	_, err = s.Tree()
	require.ErrorIs(t, err, shard.ErrChanged)
}
