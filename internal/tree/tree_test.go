package tree_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// write makes a directory with files of these contents. A path with a slash at its end is an
// empty directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(full, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		require.NoError(t, os.WriteFile(full, []byte(text), mode))
	}
	return dir
}

// stream reads the directory dir to its end.
func stream(t testing.TB, dir string, opts tree.Options) (*tree.Tree, []byte) {
	t.Helper()
	source, err := tree.Open(dir, opts)
	require.NoError(t, err)
	text, err := io.ReadAll(source)
	require.NoError(t, err)
	require.Len(t, text, int(source.Size()))
	read, err := source.Tree()
	require.NoError(t, err)
	require.NoError(t, source.Close())
	return read, text
}

// described describes the text of a list that need not be one.
func described(count int, text []byte) shard.Files {
	return shard.Files{Count: count, Size: int64(len(text)), Digest: sha256.Sum256(text)}
}

// paths returns the paths of a tree's files.
func paths(t *tree.Tree) []string {
	var all []string
	for f := range t.Files() {
		all = append(all, f.Path)
	}
	return all
}

// hostile are files whose headers take every form.
func hostile() map[string]string {
	deep := strings.Repeat("d", 90)
	return map[string]string{
		"config.json": "{}", "run.sh": "#!/bin/sh\n", "empty": "", "logs/": "", "a/b": "1", "a-b": "2", "a/": "",
		"a/.hidden": "x", "Größe/ß.txt": "umlauts", "Größe/leer/": "",
		strings.Repeat("n", 100):                   "a name that just fits",
		strings.Repeat("m", 101):                   "a name that cannot be divided",
		deep + "/" + strings.Repeat("f", 90):       "a name that is divided",
		deep + "/" + deep + "/" + deep:             "a prefix that has to be shorter",
		deep + "/" + strings.Repeat("e", 99) + "/": "",
		strings.Repeat("v", 156) + "/file":         "a prefix without room",
		"block":                                    strings.Repeat("x", 512), "over": strings.Repeat("x", 513),
	}
}

func TestStreamIsATarThatOthersRead(t *testing.T) {
	files := hostile()
	delete(files, "a/") // it is not empty
	read, text := stream(t, write(t, files), tree.Options{})
	assert.True(t, slices.IsSorted(paths(read)))
	archive := tar.NewReader(bytes.NewReader(text))
	got := map[string]string{}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		got[h.Name] = string(content)
		executable := h.Typeflag == tar.TypeDir || strings.HasSuffix(h.Name, ".sh")
		assert.Equal(t, executable, h.Mode&0o100 != 0, h.Name)
	}
	assert.Equal(t, files, got)
	for f := range read.Files() {
		if !f.Directory {
			assert.Equal(t, files[f.Path], string(text[f.Offset:f.Offset+f.Size]), f.Path)
			assert.Equal(t, shard.Digest(sha256.Sum256([]byte(files[f.Path]))), f.Digest, f.Path)
		}
	}
}

func TestEqualDirectoriesHaveEqualStreams(t *testing.T) {
	_, one := stream(t, write(t, hostile()), tree.Options{})
	_, two := stream(t, write(t, hostile()), tree.Options{})
	assert.Equal(t, sha256.Sum256(one), sha256.Sum256(two))
}

func TestSizeOfAFileBeyondTheHeaderIsARecord(t *testing.T) {
	laid, err := tree.Lay([]tree.File{{Path: "big", Size: 1 << 33, Digest: shard.Digest{1}}})
	require.NoError(t, err)
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	dir, err := tree.NewDir(root, laid)
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	header, err := tar.NewReader(io.NewSectionReader(dir, 0, laid.Size())).Next()
	require.NoError(t, err)
	assert.EqualValues(t, 1<<33, header.Size)
	assert.Equal(t, "big", header.Name)
	assert.EqualValues(t, 3*512, laid.File(0).Offset)
}

func TestListIsReadBackAsAnEqualTree(t *testing.T) {
	read, _ := stream(t, write(t, hostile()), tree.Options{})
	text := read.Encode()
	again, err := tree.Parse(bytes.NewReader(text), described(read.Len(), text))
	require.NoError(t, err)
	assert.Equal(t, slices.Collect(read.Files()), slices.Collect(again.Files()))
	assert.Equal(t, read.Size(), again.Size())
}

func TestBadListIsRefused(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	file := func(path, rest string) string {
		return `{"path":"` + path + `","size":0,"digest":"` + digest + `",` + rest + "}\n"
	}
	sized := func(size string) string {
		return `{"path":"a","size":` + size + `,"offset":512,"digest":"` + digest + `"}` + "\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"no JSON":       {"x\n", "line 1"},
		"no path":       {`{"directory":true}` + "\n", "no path"},
		"null":          {sized("null"), "no size"},
		"no digest":     {`{"path":"a","size":1,"offset":512}` + "\n", "no digest"},
		"a parent":      {file("../a", `"offset":512`), `".."`},
		"absolute":      {file("/a", `"offset":512`), "slash"},
		"a backslash":   {file(`a\\b`, `"offset":512`), "backslash"},
		"a newline":     {file(`a\nb`, `"offset":512`), "control character"},
		"wrong offset":  {file("a", `"offset":513`), "offset 513 instead of 512"},
		"negative size": {sized("-1"), "out of range"},
		"huge":          {sized("9000000000000000000"), "range"},
		"order":         {file("b", `"offset":512`) + file("a", `"offset":1024`), "ascend"},
		"twice":         {file("a", `"offset":512`) + file("a", `"offset":1024`), "ascend"},
		"in a file": {
			file("a", `"offset":512`) + file("a-b", `"offset":1024`) + file("a/c/d", `"offset":1536`), `lies in "a"`,
		},
		"in an empty one":      {`{"path":"a","directory":true}` + "\n" + file("a/b", `"offset":1024`), `lies in "a"`},
		"a long element":       {file(strings.Repeat("x", 256), `"offset":1536`), "longer than 255"},
		"a long path":          {file(strings.Repeat("x/", 2048)+"x", `"offset":1536`), "longer than 4096"},
		"a line without end":   {`{"path":"` + strings.Repeat("x", 40<<10), "longer than"},
		"executable as a text": {file("a", `"offset":512,"executable":"yes"`), "Executable"},
	} {
		t.Run(name, func(t *testing.T) {
			count := strings.Count(tc.text, "\n")
			_, err := tree.Parse(strings.NewReader(tc.text), described(max(count, 1), []byte(tc.text)))
			require.ErrorIs(t, err, tree.ErrTree)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestListThatIsNotTheManifestsIsRefused(t *testing.T) {
	read, _ := stream(t, write(t, hostile()), tree.Options{})
	text := read.Encode()
	right := described(read.Len(), text)
	for name, change := range map[string]func(f *shard.Files){
		"fewer lines":    func(f *shard.Files) { f.Count-- },
		"more lines":     func(f *shard.Files) { f.Count++ },
		"shorter":        func(f *shard.Files) { f.Size-- },
		"longer":         func(f *shard.Files) { f.Size++ },
		"another digest": func(f *shard.Files) { f.Digest[0]++ },
	} {
		t.Run(name, func(t *testing.T) {
			want := right
			change(&want)
			_, err := tree.Parse(bytes.NewReader(text), want)
			require.ErrorIs(t, err, tree.ErrTree)
		})
	}
}

func TestWhatATreeCannotHaveIsRefusedByItsPath(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"link":              {func(dir string) error { return os.Symlink("a", dir+"/l") }, "l: it is a symbolic link"},
		"link to a parent":  {func(dir string) error { return os.Symlink("..", dir+"/l") }, "l: it is a symbolic link"},
		"newline in a name": {func(dir string) error { return os.WriteFile(dir+"/a\nb", nil, 0o600) }, "control"},
		"Latin-1 in a name": {func(dir string) error { return os.WriteFile(dir+"/\xfc", nil, 0o600) }, "not UTF-8"},
		"backslash":         {func(dir string) error { return os.WriteFile(dir+`/a\b`, nil, 0o600) }, "backslash"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"a": "1"})
			require.NoError(t, tc.spoil(dir))
			_, err := tree.Open(dir, tree.Options{})
			require.ErrorIs(t, err, tree.ErrUnpublishable)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestLinksAreFollowedOnRequest(t *testing.T) {
	blobs := write(t, map[string]string{"1234": "weights"})
	dir := write(t, map[string]string{"config.json": "{}"})
	require.NoError(t, os.Symlink(filepath.Join(blobs, "1234"), filepath.Join(dir, "model.safetensors")))
	_, text := stream(t, dir, tree.Options{FollowLinks: true})
	copied := write(t, map[string]string{"config.json": "{}", "model.safetensors": "weights"})
	_, plain := stream(t, copied, tree.Options{})
	assert.Equal(t, plain, text)

	_, below := stream(t, dir, tree.Options{FollowLinks: true, LinksBelow: blobs})
	assert.Equal(t, plain, below)
	_, err := tree.Open(dir, tree.Options{FollowLinks: true, LinksBelow: dir})
	require.ErrorContains(t, err, "which is not below")

	require.NoError(t, os.Symlink("..", filepath.Join(dir, "parent")))
	_, err = tree.Open(dir, tree.Options{FollowLinks: true})
	require.ErrorContains(t, err, "parent: it is a link to a directory, which a tree cannot have; exclude it, or copy")
}

func TestPatternsChooseFiles(t *testing.T) {
	dir := write(t, map[string]string{
		"config.json": "", "model.safetensors": "", "sub/model.safetensors": "", "sub/deep/notes.txt": "", "logs/1": "",
		"logs.txt": "", "none/": "", ".hidden": "", "x.incomplete": "", ".out.shardcast-part": "",
	})
	for name, tc := range map[string]struct {
		opts tree.Options
		want []string
	}{
		"all": {tree.Options{}, []string{
			".hidden", "config.json", "logs.txt", "logs/1", "model.safetensors", "none",
			"sub/deep/notes.txt", "sub/model.safetensors",
		}},
		"a name at any depth": {
			tree.Options{Include: []string{"*.safetensors"}},
			[]string{"model.safetensors", "sub/model.safetensors"},
		},
		"a path": {tree.Options{Include: []string{"/*.safetensors"}}, []string{"model.safetensors"}},
		"a directory": {
			tree.Options{Include: []string{"sub"}},
			[]string{"sub/deep/notes.txt", "sub/model.safetensors"},
		},
		"any depth": {tree.Options{Include: []string{"sub/**/*.txt"}}, []string{"sub/deep/notes.txt"}},
		"left out": {
			tree.Options{Include: []string{"*.safetensors"}, Exclude: []string{"sub/"}},
			[]string{"model.safetensors"},
		},
		"a directory alone": {tree.Options{Exclude: []string{"logs/", "sub", ".*", "none"}}, []string{
			"config.json", "logs.txt", "model.safetensors",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			read, _ := stream(t, dir, tc.opts)
			assert.Equal(t, tc.want, paths(read))
		})
	}
	_, err := tree.Open(dir, tree.Options{Include: []string{"[a"}})
	require.ErrorContains(t, err, `bad pattern "[a"`)
}

func TestDirectoryThatChangesWhileItIsReadIsNoTree(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"written to": func(dir string) error { return os.WriteFile(dir+"/b", []byte("XX"), 0o600) },
		"longer":     func(dir string) error { return os.WriteFile(dir+"/a", []byte("111"), 0o600) },
		"new":        func(dir string) error { return os.WriteFile(dir+"/c", nil, 0o600) },
		"gone":       func(dir string) error { return os.Remove(dir + "/a") },
		"exchanged":  func(dir string) error { return errors.Join(os.Remove(dir+"/b"), os.Symlink("a", dir+"/b")) },
		"executable": func(dir string) error { return os.Chmod(dir+"/a", 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"a": "1", "b": "22"})
			source, err := tree.Open(dir, tree.Options{})
			require.NoError(t, err)
			defer func() { _ = source.Close() }()
			_, err = io.CopyN(io.Discard, source, 600) // a has been read, and b has not
			require.NoError(t, err)
			require.NoError(t, change(dir))
			_, err = io.Copy(io.Discard, source)
			if err == nil {
				_, err = source.Tree()
			}
			require.Error(t, err)
			if !errors.Is(err, fs.ErrNotExist) {
				require.ErrorIs(t, err, shard.ErrChanged)
			}
		})
	}
}

// receive writes text to a Dir in parts, in the order of random.
func receive(t require.TestingT, root *os.Root, laid *tree.Tree, text []byte, random *rand.Rand) {
	dir, err := tree.NewDir(root, laid)
	require.NoError(t, err)
	var starts []int
	part := 1 + random.IntN(2000)
	for at := 0; at < len(text); at += part {
		starts = append(starts, at)
	}
	random.Shuffle(len(starts), func(i, j int) { starts[i], starts[j] = starts[j], starts[i] })
	for _, at := range starts {
		p := text[at:min(at+part, len(text))]
		n, err := dir.WriteAt(p, int64(at))
		require.NoError(t, err)
		require.Len(t, p, n)
	}
	back := make([]byte, len(text))
	_, err = dir.ReadAt(back, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(text, back))
	require.NoError(t, dir.Finish())
}

func TestDirectoryArrivesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		random := rand.New(rand.NewPCG(seed, 1))
		files := map[string]string{}
		for range random.IntN(8) {
			files[[]string{"a", "b", "a-b", "c.sh"}[random.IntN(4)]] = strings.Repeat("z", random.IntN(3000))
			files["sub/"+string(rune('a'+random.IntN(5)))] = strings.Repeat("y", random.IntN(1500))
			files["none/"] = ""
		}
		laid, text := stream(t, write(t, files), tree.Options{})
		root, err := os.OpenRoot(t.TempDir())
		require.NoError(rt, err)
		defer root.Close()
		receive(rt, root, laid, text, random)
		again, copied := stream(t, root.Name(), tree.Options{})
		require.True(rt, bytes.Equal(text, copied))
		require.Equal(rt, slices.Collect(laid.Files()), slices.Collect(again.Files()))
	})
}

func TestMoreFilesThanMayBeOpenArrive(t *testing.T) {
	files := map[string]string{}
	for i := range 700 {
		files[strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26)] = strings.Repeat("z", i)
	}
	laid, text := stream(t, write(t, files), tree.Options{})
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	receive(t, root, laid, text, rand.New(rand.NewPCG(1, 2)))
	_, copied := stream(t, root.Name(), tree.Options{})
	assert.True(t, bytes.Equal(text, copied))
}

func TestAnInterruptedDirectoryGoesOn(t *testing.T) {
	laid, text := stream(t, write(t, map[string]string{
		"a": strings.Repeat("a", 100_000), "b": strings.Repeat("b", 100_000), "c": "", "d/e": "x",
	}), tree.Options{})
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	first, err := tree.NewDir(root, laid)
	require.NoError(t, err)
	none, err := first.Written(0, laid.Size())
	require.NoError(t, err)
	assert.Empty(t, none)
	_, err = first.WriteAt(text[:130_000], 0)
	require.NoError(t, err)
	require.NoError(t, first.Close())

	second, err := tree.NewDir(root, laid)
	require.NoError(t, err)
	written, err := second.Written(0, laid.Size())
	require.NoError(t, err)
	require.NotEmpty(t, written)
	assert.Zero(t, written[0].From)
	assert.GreaterOrEqual(t, written[0].To, int64(100_512))
	assert.LessOrEqual(t, written[0].To, int64(130_000))
	_, err = second.WriteAt(text[written[0].To:], written[0].To)
	require.NoError(t, err)
	require.NoError(t, second.Finish())
	_, copied := stream(t, root.Name(), tree.Options{})
	assert.True(t, bytes.Equal(text, copied))
}

func TestForeignFileInAnArrivingDirectoryIsFoundOut(t *testing.T) {
	laid, text := stream(t, write(t, map[string]string{"a": "1"}), tree.Options{})
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	require.NoError(t, root.WriteFile("foreign", nil, 0o600))
	dir, err := tree.NewDir(root, laid)
	require.NoError(t, err)
	_, err = dir.WriteAt(text, 0)
	require.NoError(t, err)
	require.ErrorContains(t, dir.Finish(), "foreign is not of the version")
}

func TestTwoPathsThatAreOneFileAreNamed(t *testing.T) {
	composed, decomposed := "\u00e9", "e\u0301"
	laid, text := stream(t, write(t, map[string]string{composed: "1", decomposed: "2"}), tree.Options{})
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	dir, err := tree.NewDir(root, laid)
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	second := laid.File(1).Offset
	_, err = dir.WriteAt(text[:second], 0)
	require.NoError(t, err)
	// So a file system behaves that takes both for one.
	require.NoError(t, root.Link(decomposed, composed))
	_, err = dir.WriteAt(text[second:], second)
	require.ErrorIs(t, err, tree.ErrClash)
	assert.ErrorContains(t, err, `takes "é" and "é" for one`)
}

func TestDigestsOfFilesMayBeComputedApart(t *testing.T) {
	dir := write(t, hostile())
	want, text := stream(t, dir, tree.Options{})
	for _, size := range []int{1, 100, 511, 512, 5000} {
		source, err := tree.Open(dir, tree.Options{})
		require.NoError(t, err)
		apart := source.Apart()
		read, err := io.ReadAll(source)
		require.NoError(t, err)
		require.Equal(t, text, read)
		for p := range slices.Chunk(read, size) {
			apart(p)
		}
		got, err := source.Tree()
		require.NoError(t, err)
		assert.Equal(t, slices.Collect(want.Files()), slices.Collect(got.Files()))
		require.NoError(t, source.Close())
	}
}

func TestALinkInAnArrivingDirectoryLeadsNowhere(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	laid, text := stream(t, write(t, map[string]string{"in/a": "text", "in/b": large}), tree.Options{})
	for name, plant := range map[string]func(root *os.Root, out string) error{
		"a small file": func(root *os.Root, out string) error { return root.Symlink(out+"/a", "in/a") },
		"a large file": func(root *os.Root, out string) error { return root.Symlink(out+"/b", "in/b") },
		"a directory": func(root *os.Root, out string) error {
			return errors.Join(root.Remove("in"), root.Symlink(out, "in"))
		},
		"a file of the tree": func(root *os.Root, _ string) error { return root.Symlink("b", "in/a") },
	} {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprint(name, before), func(t *testing.T) {
				out := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(out, "a"), []byte("mine"), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(out, "b"), []byte("mine"), 0o600))
				root, err := os.OpenRoot(t.TempDir())
				require.NoError(t, err)
				defer root.Close()
				require.NoError(t, root.Mkdir("in", 0o700))
				if before {
					require.NoError(t, plant(root, out))
				}
				dir, err := tree.NewDir(root, laid)
				if err == nil {
					if !before {
						require.NoError(t, plant(root, out))
					}
					_, err = dir.WriteAt(text, 0)
					defer func() { require.NoError(t, dir.Close()) }()
				}
				require.Error(t, err)
				reader := tree.NewReader(root, laid)
				defer func() { require.NoError(t, reader.Close()) }()
				_, err = reader.ReadAt(make([]byte, len(text)), 0)
				require.Error(t, err)
				for _, name := range []string{"a", "b"} {
					got, err := os.ReadFile(filepath.Join(out, name))
					require.NoError(t, err)
					assert.Equal(t, "mine", string(got))
				}
			})
		}
	}
}

// FuzzParse holds that a list is refused, or read back as an equal one.
func FuzzParse(f *testing.F) {
	read, _ := stream(f, write(f, hostile()), tree.Options{})
	f.Add(read.Encode(), read.Len())
	f.Add([]byte(`{"path":"logs","directory":true}`+"\n"), 1)
	f.Add([]byte{}, 0)
	f.Add([]byte("x"), -1)
	f.Fuzz(func(t *testing.T, text []byte, count int) {
		got, err := tree.Parse(bytes.NewReader(text), described(count, text))
		if err != nil {
			require.ErrorIs(t, err, tree.ErrTree)
			return
		}
		encoded := got.Encode()
		again, err := tree.Parse(bytes.NewReader(encoded), described(count, encoded))
		require.NoError(t, err)
		assert.Equal(t, slices.Collect(got.Files()), slices.Collect(again.Files()))
	})
}

// FuzzDir holds that whatever a list says, its directory alone is written to.
func FuzzDir(f *testing.F) {
	read, text := stream(f, write(f, map[string]string{"a": "1", "b/c": "2", "d/": ""}), tree.Options{})
	f.Add(read.Encode(), 3, text)
	f.Fuzz(func(t *testing.T, list []byte, count int, data []byte) {
		laid, err := tree.Parse(bytes.NewReader(list), described(count, list))
		if err != nil {
			return
		}
		parent := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(parent, "in"), 0o700))
		root, err := os.OpenRoot(filepath.Join(parent, "in"))
		require.NoError(t, err)
		defer root.Close()
		dir, err := tree.NewDir(root, laid)
		if err != nil {
			return
		}
		_, _ = dir.WriteAt(data, 0)
		_ = dir.Finish()
		entries, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Len(t, entries, 1)
	})
}

func TestContentThatWasRemovedIsNotReadAsZeros(t *testing.T) {
	laid, text := stream(t, write(t, map[string]string{"a": "text", "b": "more"}), tree.Options{})
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	receive(t, root, laid, text, rand.New(rand.NewPCG(1, 1)))
	reader := tree.NewReader(root, laid)
	defer func() { require.NoError(t, reader.Close()) }()
	got := make([]byte, len(text))
	_, err = reader.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, text, got)
	other := tree.NewReader(root, laid)
	require.NoError(t, root.Remove("b"))
	_, err = other.ReadAt(got, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, other.Close())
	_, err = root.Stat("a")
	require.ErrorIs(t, err, fs.ErrClosed, "it has the directory, too")
}
