package main

import (
	"context"
	"crypto/sha256"
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

// files is the number of files of the directory.
const files = 30

// broadcastTree publishes a directory as v2.
func (l *loop) broadcastTree(ctx context.Context, seed uint64) (err error) {
	dir := l.path("model")
	if l.tree, err = makeTree(ctx, dir, l.size, seed); err != nil {
		return err
	}
	p, err := l.start(ctx, "shardcast-origin", "broadcast", dir,
		"--data-dir", l.path("origin"), "--shard-size", l.shardSize())
	if err != nil {
		return err
	}
	defer p.Kill()
	_, err = p.Wait()
	return err
}

// makeTree makes a directory of files of different sizes, which are size bytes together, and
// returns the digest of its stream.
func makeTree(ctx context.Context, dir string, size int64, seed uint64) (shard.Digest, error) {
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		return shard.Digest{}, err
	}
	random := rand.New(rand.NewPCG(seed, files))
	for i := range files {
		part := random.Int64N(2*size/int64(files-i) + 1)
		if i == files-1 {
			part = size
		}
		part = min(part, size)
		size -= part
		name := filepath.Join(dir, fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, files))
		if i%3 == 0 {
			name = filepath.Join(dir, "sub", filepath.Base(name))
		}
		if _, err := file.Random(ctx, name, flags.Bytes(part), seed+uint64(i)); err != nil {
			return shard.Digest{}, err
		}
	}
	return digestOf(dir)
}

// digestOf returns the digest of the stream of a directory.
func digestOf(dir string) (digest shard.Digest, err error) {
	source, err := tree.Open(dir, tree.Options{})
	if err != nil {
		return digest, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, source)
	return shard.Digest(sum.Sum(nil)), errors.Join(err, source.Close())
}

// checkTree returns an error unless dir is the published directory.
func (l *loop) checkTree(dir string) error {
	digest, err := digestOf(dir)
	if err == nil && digest != l.tree {
		err = fmt.Errorf("not the published files: %s", dir)
	}
	return err
}
