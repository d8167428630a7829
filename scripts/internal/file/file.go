// Package file makes files of random bytes to measure with, and tells whether what came
// of them is the same.
package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/shardcast/shardcast/internal/shard"
)

// Bytes is a number of them, or of bytes per second; a pointer to it is a flag.
type Bytes int64

// String returns the number as somebody would write it: 1.0GiB is 1GiB.
func (b *Bytes) String() string {
	for _, f := range []func(uint64) string{humanize.Bytes, humanize.IBytes} {
		s := strings.ReplaceAll(strings.ReplaceAll(f(uint64(*b)), " ", ""), ".0", "")
		if n, err := humanize.ParseBytes(s); err == nil && n == uint64(*b) {
			return s
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Set reads 50MB, 1GiB, 50000000, and 50MB/s.
func (b *Bytes) Set(s string) error {
	n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
	if err == nil && n > 1<<50 {
		err = errors.New("want less than 1 PiB")
	}
	*b = Bytes(n)
	return err
}

// A File is one of random bytes.
type File struct {
	Name   string
	Size   Bytes
	Digest shard.Digest
}

// Random makes one, whose bytes are those of seed. They are on the disk when it returns,
// so that writing them disturbs nothing afterwards.
func Random(ctx context.Context, name string, size Bytes, seed uint64) (f File, err error) {
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

// Digest is that of the bytes of a file.
func Digest(name string) (shard.Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return shard.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return shard.Digest(h.Sum(nil)), err
}
