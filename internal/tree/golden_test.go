package tree_test

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

var update = flag.Bool("update", false, "write the golden files")

// dump returns data as hexdump -C prints it, without lines of zeros.
func dump(data []byte) string {
	zeros := strings.TrimPrefix(hex.Dump(make([]byte, 16)), "00000000")
	var text strings.Builder
	for line := range strings.Lines(hex.Dump(data)) {
		if !strings.HasSuffix(line, zeros) {
			text.WriteString(line)
		}
	}
	return text.String() + fmt.Sprintf("%08x\n", len(data))
}

// golden are the files of the golden tree. A script is executable.
var golden = map[string]string{"config.json": "{}\n", "logs/": "", "grün.sh": "#!/bin/sh\n"}

func TestGoldenTreeIsToTheByteAsDocumented(t *testing.T) {
	read, text := stream(t, write(t, golden), tree.Options{})
	page, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	for name, got := range map[string]string{"golden.tar.hex": dump(text), "golden.jsonl": string(read.Encode())} {
		path := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, path)
		found := strings.Contains(string(page), "```\n"+got+"```\n")
		assert.True(t, found, "docs/protocol.md has another %s", path)
	}
}

func TestTheTarOfADirectoryIsKnownByItsBeginning(t *testing.T) {
	for _, files := range []map[string]string{
		golden,
		{"a": ""},
		{"empty/": ""},
		{"run.sh": "#!"},
		{"grün": "1"},
		{strings.Repeat("long/", 30) + "name": "x"},
		{strings.Repeat("longer/", 80) + "name": "x"},
	} {
		_, text := stream(t, write(t, files), tree.Options{})
		assert.True(t, tree.Begins(text[:tree.HeaderSize]))
		assert.False(t, tree.Begins(text[:tree.HeaderSize-1]), "a part of it says nothing")
		text[130]++
		assert.False(t, tree.Begins(text), "another size")
	}
	var others bytes.Buffer
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		others.Reset()
		w := tar.NewWriter(&others)
		require.NoError(t, w.WriteHeader(&tar.Header{
			Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1e9, 0), Format: format,
		}))
		require.NoError(t, w.Flush())
		assert.False(t, tree.Begins(others.Bytes()), "%v", format)
	}
	assert.False(t, tree.Begins(make([]byte, tree.HeaderSize)))
	assert.False(t, tree.Begins(nil))
}

// extractors are the commands that extract $1 in the current directory.
var extractors = map[string]struct{ program, script string }{
	"GNU tar": {"tar", `tar xf "$1"`},
	"bsdtar":  {"bsdtar", `LC_ALL=C.UTF-8 bsdtar -xf "$1"`},
	"Python":  {"python3", `python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(".")' "$1"`},
}

// below returns the files and empty directories below dir with their contents, and marks
// the files that may be executed.
func below(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		if entry.IsDir() {
			entries, err := os.ReadDir(path)
			require.NoError(t, err)
			if len(entries) == 0 {
				found[name+"/"] = "empty directory"
			}
			return nil
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		found[name] = fmt.Sprintf("executable %v: %s", info.Mode()&0o100 != 0, text)
		return nil
	}))
	return found
}

func TestOtherProgramsExtractTheSameTree(t *testing.T) {
	for name, files := range map[string]map[string]string{"golden": golden, "hostile": hostile()} {
		dir := write(t, files)
		_, text := stream(t, dir, tree.Options{})
		archive := filepath.Join(t.TempDir(), "tree.tar")
		require.NoError(t, os.WriteFile(archive, text, 0o600))
		for reader, tc := range extractors {
			t.Run(name+" by "+reader, func(t *testing.T) {
				if _, err := exec.LookPath(tc.program); err != nil {
					t.Skipf("%s is not installed: see scripts/others", tc.program)
				}
				to := t.TempDir()
				extract := exec.CommandContext(t.Context(), "sh", "-c", tc.script, "sh", archive)
				extract.Dir = to
				out, err := extract.CombinedOutput()
				require.NoError(t, err, "%s", out)
				assert.Equal(t, below(t, dir), below(t, to))
			})
		}
	}
}

// listers are the commands that list $1 with sizes.
var listers = map[string]struct{ program, script string }{
	"GNU tar": {"tar", `tar tvf "$1"`},
	"bsdtar":  {"bsdtar", `bsdtar -tvf "$1"`},
	"Python":  {"python3", `python3 -m tarfile -v -l "$1"`},
}

func TestOtherProgramsReadSizesBeyondTheHeader(t *testing.T) {
	laid, err := tree.Lay([]tree.File{
		{Path: "big", Size: 1<<33 + 1, Digest: shard.Digest{1}}, {Path: "small", Size: 7, Digest: shard.Digest{2}},
	})
	require.NoError(t, err)
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	made := tree.NewReader(root, laid) // of no file
	// The contents are a hole.
	archive, err := os.Create(filepath.Join(t.TempDir(), "tree.tar"))
	require.NoError(t, err)
	defer archive.Close()
	require.NoError(t, archive.Truncate(laid.Size()))
	for part := range laid.Pieces(0, laid.Size()) {
		if part.File < 0 {
			header := io.NewSectionReader(made, part.Offset, part.Size)
			_, err := io.Copy(io.NewOffsetWriter(archive, part.Offset), header)
			require.NoError(t, err)
		}
	}
	for reader, tc := range listers {
		t.Run(reader, func(t *testing.T) {
			if _, err := exec.LookPath(tc.program); err != nil {
				t.Skipf("%s is not installed: see scripts/others", tc.program)
			}
			out, err := exec.CommandContext(t.Context(), "sh", "-c", tc.script, "sh", archive.Name()).CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Regexp(t, `(?m) 8589934593 .* big\s*$`, string(out))
			assert.Regexp(t, `(?m) 7 .* small\s*$`, string(out))
		})
	}
}
