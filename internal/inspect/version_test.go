package inspect_test

import (
	"crypto/sha256"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/inspect"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// treeOf returns the bytes of a directory of one file, and their list, in which it has the content stated.
func treeOf(t *testing.T, content, stated string) (stream io.Reader, list *tree.Tree) {
	t.Helper()
	dir, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, dir.Close()) })
	require.NoError(t, dir.WriteFile("a.txt", []byte(content), 0o600))
	source, err := tree.Open(dir.Name(), tree.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, source.Close()) })
	list, err = tree.Lay([]tree.File{{Path: "a.txt", Size: int64(len(stated)), Digest: sha256.Sum256([]byte(stated))}})
	require.NoError(t, err)
	return source, list
}

func TestShardsThatAreRightMakeNoRightVersionAlone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content, stated string              // of the file, and what the list says of it
		digest          func(*shard.Digest) // changes that of the manifest, or nil
		listed          func(*shard.Digest) // changes that of the distribution, or nil
		want            string              // is wrong
	}{
		"right":         {content: "text", stated: "text"},
		"other content": {content: "text", stated: "test", want: "v1/files.jsonl: .*a.txt"},
		"another size": {
			content: "text", stated: strings.Repeat("x", 600),
			want: "v1/files.jsonl: .*its files make 2560 bytes instead of 2048",
		},
		"another whole": {
			content: "text", stated: "text", digest: func(d *shard.Digest) { d[0]++ },
			want: "v1/manifest.json: the whole has a wrong digest",
		},
		"another distribution": {
			content: "text", stated: "text", listed: func(d *shard.Digest) { d[0]++ },
			want: "v1/manifest.json: wrong digest: .* in distribution.txt",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, err := store.Open(t.TempDir(), store.Origin)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, st.Close()) })
			d, err := st.Draft(1)
			require.NoError(t, err)
			stream, list := treeOf(t, tc.content, tc.stated)
			m, err := shard.Cut(t.Context(), stream,
				shard.Plan{Size: shard.UnknownSize, ShardSize: 700, Create: d.Create})
			require.NoError(t, err)
			f, err := d.CreateFile(shard.FilesName)
			require.NoError(t, err)
			text := list.Encode()
			_, err = f.Write(text)
			require.NoError(t, err)
			require.NoError(t, f.Commit())
			require.NoError(t, f.Close())
			m.Name, m.Files = "a.tar", &shard.Files{Count: 1, Size: int64(len(text)), Digest: sha256.Sum256(text)}
			if tc.digest != nil {
				tc.digest(&m.Digest)
			}
			w, err := st.Lock(t.Context())
			require.NoError(t, err)
			require.NoError(t, w.Publish(d, m))
			require.NoError(t, w.Unlock())
			e := distfile.Entry{Version: 1, Digest: m.Digest}
			if tc.listed != nil {
				tc.listed(&e.Digest)
			}
			_, wrong, err := inspect.Version(t.Context(), st, e)
			require.NoError(t, err)
			if tc.want == "" {
				assert.Empty(t, wrong)
				return
			}
			require.Len(t, wrong, 1)
			assert.Regexp(t, tc.want, wrong[0].Error())
		})
	}
}
