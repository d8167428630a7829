// Package file makes files of random bytes to measure with, and the digests of copies.
package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/flags"
)

// A File has random bytes.
type File struct {
	Name   string
	Size   flags.Bytes
	Digest shard.Digest
}

// Random makes a file with the bytes of a seed. They are on the disk when it returns, so
// that writing them disturbs nothing afterwards.
func Random(ctx context.Context, name string, size flags.Bytes, seed uint64) (f File, err error) {
	f = File{Name: name, Size: size}
	out, err := os.Create(name)
	if err != nil {
		return f, err
	}
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	h, random := sha256.New(), rand.NewChaCha8(key)
	for rest := int64(size); rest > 0 && err == nil && ctx.Err() == nil; rest -= 1 << 26 {
		_, err = io.CopyN(io.MultiWriter(out, h), random, min(rest, 1<<26))
	}
	f.Digest = shard.Digest(h.Sum(nil))
	return f, errors.Join(err, context.Cause(ctx), out.Sync(), out.Close())
}

// Digest is that of the bytes of files, one after the other.
func Digest(names ...string) (shard.Digest, error) {
	h := sha256.New()
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return shard.Digest{}, err
		}
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return shard.Digest{}, err
		}
	}
	return shard.Digest(h.Sum(nil)), nil
}
