//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
)

const (
	treeFiles = 30      // of the directory that is as large as the file
	smallFile = 4 << 10 // bytes of each of many files

	asFile = "one file of that size"
	untar  = "tar x"
)

// treePart measures publishing and fetching a directory beside one file of that size, and
// one of many small files beside tar.
func (b *bench) treePart(ctx context.Context) error {
	f, err := b.main(ctx)
	if err != nil {
		return err
	}
	dir, err := b.makeTree(ctx, "tree", treeFiles, f.Size/treeFiles)
	if err != nil {
		return err
	}
	if err := b.publishTree(ctx, f, dir); err != nil {
		return err
	}
	if err := b.fetchTree(ctx, dir); err != nil {
		return err
	}
	many, err := b.makeTree(ctx, "many", b.flags.files, smallFile)
	if err != nil {
		return err
	}
	return errors.Join(b.fetchMany(ctx, many), os.RemoveAll(dir.Name), os.RemoveAll(many.Name))
}

// randomOf returns random bytes, the same for the same file of a seed.
func randomOf(seed uint64, number int) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(number))
	return rand.NewChaCha8(key)
}

// makeTree makes a directory of count files of size bytes, at most 500 in each of its
// directories, and returns its stream.
func (b *bench) makeTree(ctx context.Context, name string, count int, size flags.Bytes) (of file.File, err error) {
	dir := filepath.Join(b.dir, name)
	for i := range count {
		in := filepath.Join(dir, fmt.Sprintf("%03d", i/500))
		if err := os.MkdirAll(in, 0o700); err != nil {
			return of, err
		}
		out, err := os.Create(filepath.Join(in, fmt.Sprintf("%05d.bin", i)))
		if err != nil {
			return of, err
		}
		_, err = io.CopyN(out, randomOf(b.flags.seed, i), int64(size))
		if err := errors.Join(err, out.Close(), context.Cause(ctx)); err != nil {
			return of, err
		}
	}
	return streamOf(dir)
}

// streamOf returns the stream of a directory, by the directory's name.
func streamOf(dir string) (of file.File, err error) {
	source, err := tree.Open(dir, tree.Options{})
	if err != nil {
		return of, err
	}
	digest := sha256.New()
	size, err := io.Copy(digest, source)
	of = file.File{Name: dir, Size: flags.Bytes(size), Digest: shard.Digest(digest.Sum(nil))}
	return of, errors.Join(err, source.Close())
}

// publishTree measures publishing a directory beside f.
func (b *bench) publishTree(ctx context.Context, f, dir file.File) error {
	t := &Table{
		Name: "tree-publish", Title: fmt.Sprintf("A directory of %d files, %s", treeFiles, f.Size.String()),
		Key: Wall, Limit: asFile,
	}
	publish := func(of *bench, name string, role Role, f file.File) tool {
		return tool{of.of + name, role, nil, func(ctx context.Context, at string) (Sample, error) {
			s, _, err := measured(ctx, int64(f.Size), at, nil, of.command("origin"), "broadcast", f.Name,
				"--data-dir", "data", "--shard-size", fmt.Sprint(int64(b.flags.shardSize)), "--log-level", "WARNING")
			return s, err
		}}
	}
	var tools []tool
	for _, side := range b.sides() {
		tools = append(tools, publish(side, broadcast, Ours, dir))
	}
	return b.table(ctx, t, append(tools, publish(b, asFile, Part, f)))
}

// fetchTree measures fetching a directory beside the file.
func (b *bench) fetchTree(ctx context.Context, dir file.File) error {
	one, err := b.version(ctx)
	if err != nil {
		return err
	}
	v, err := b.published(ctx, dir, filepath.Join(b.dir, "tree-data"), b.flags.shardSize)
	if err != nil {
		return err
	}
	beside, err := b.origin(ctx, one)
	if err != nil {
		return err
	}
	defer beside.Kill()
	t := &Table{
		Name:  "tree-fetch",
		Title: fmt.Sprintf("A directory of %d files, %s, received and verified", treeFiles, dir.Size.String()),
		Key:   Wall, Limit: asFile,
	}
	whole := b.client(asFile, one.file, beside.address, nil)
	whole.role = Part
	return errors.Join(b.fetchDirectory(ctx, t, v, []tool{whole}), v.remove())
}

// fetchMany measures fetching many small files beside tar.
func (b *bench) fetchMany(ctx context.Context, dir file.File) error {
	v, err := b.published(ctx, dir, filepath.Join(b.dir, "many-data"), b.flags.shardSize)
	if err != nil {
		return err
	}
	archive := filepath.Join(b.dir, "many.tar")
	if _, _, err := measured(ctx, int64(dir.Size), b.dir, nil, "tar", "cf", archive, "-C", dir.Name, "."); err != nil {
		return err
	}
	env := []string{"TAR=" + archive}
	t := &Table{
		Name:  "tree-many",
		Title: fmt.Sprintf("A directory of %d files of %d bytes, received and verified", b.flags.files, smallFile),
		Key:   Wall, Limit: untar,
	}
	err = b.fetchDirectory(ctx, t, v, []tool{
		b.shell(untar, Part, dir.Size, env, "", `exec tar xf "$TAR"`, "tar"),
		b.shell(untar+", sync", Part, dir.Size, env, "", `tar xf "$TAR"; sync -f .`, "tar", "sync"),
	})
	return errors.Join(err, v.remove(), os.Remove(archive))
}

// fetchDirectory measures fetching v, a directory, beside others.
func (b *bench) fetchDirectory(ctx context.Context, t *Table, v version, others []tool) error {
	var tools []tool
	first := "" // the origin under test
	for _, side := range b.sides() {
		origin, err := side.origin(ctx, v)
		if err != nil {
			return err
		}
		defer origin.Kill()
		first = cmp.Or(first, origin.address)
		tools = append(tools, side.directoryClient(v.file, origin.address))
	}
	own := []string{"URL=http://" + first + "/v1/stream"}
	curl := b.shell("curl | tar x", Part, v.file.Size, own, "", `curl -sSf "$URL" | tar x`, "curl", "tar")
	return b.table(ctx, t, append(append(tools, curl), others...))
}

// directoryClient is a row of our client that fetches a directory.
func (b *bench) directoryClient(dir file.File, address string) tool {
	checked := false
	return tool{b.of + fromOwn, Ours, nil, func(ctx context.Context, at string) (Sample, error) {
		s, _, err := measured(ctx, int64(dir.Size), at, nil, b.command("client"), "--servers", address,
			"--version", "v1", "--output-file", "out", "--progress", "none", "--log-level", "WARNING")
		if err != nil || checked {
			return s, err
		}
		checked = true
		if got, err := streamOf(filepath.Join(at, "out")); err != nil || got.Digest != dir.Digest {
			return nil, errors.Join(err, errors.New("the directory is wrong"))
		}
		return s, nil
	}}
}
