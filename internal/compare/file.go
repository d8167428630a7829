package compare

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// A File is compared: the one of that Name in Dir with the one that Manifest describes.
type File struct {
	Dir      *os.Root
	Name     string
	Manifest shard.Manifest // its digest is SHA-256 or BLAKE3, its size may be unknown
	Logger   *slog.Logger   // has a line before a file is read
}

// An Equal is a file that has the digest of a manifest.
type Equal struct {
	Info   fs.FileInfo
	Digest shard.Digest // SHA-256
}

// Run returns the file if it is a regular one of the manifest's size and digest, and nil if it is
// another one, or missing, or not for this user to read. It returns an error if the file cannot be
// read now, and the cause of ctx's end.
func (f File) Run(ctx context.Context) (*Equal, error) {
	info, err := f.Dir.Lstat(f.Name)
	if err != nil {
		return nil, passing(err)
	}
	if !info.Mode().IsRegular() || f.Manifest.Size >= 0 && info.Size() != f.Manifest.Size {
		return nil, nil
	}
	content, err := disk.OpenRegular(f.Dir, f.Name)
	if err != nil {
		return nil, passing(err)
	}
	defer content.Close()
	f.Logger.Info("verifying file", "file", filepath.Join(f.Dir.Name(), f.Name))
	sums, blake3 := sha256.New(), shard.NewBLAKE3()
	stop := context.AfterFunc(ctx, func() { _ = content.Close() })
	defer stop()
	if _, err := io.Copy(io.MultiWriter(sums, blake3), content); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, err
	}
	digest := shard.Digest(sums.Sum(nil))
	if digest != f.Manifest.Digest && shard.Digest(blake3.Sum(nil)) != f.Manifest.Digest {
		return nil, nil
	}
	return &Equal{Info: info, Digest: digest}, nil
}

// passing returns err if it may pass, such as too many open files, and nil if it means that the
// file is not there or not for this user.
func passing(err error) error {
	var number syscall.Errno
	if !errors.As(err, &number) || // the name leads out of the directory, or is not a file's
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) ||
		number == syscall.ENOTDIR || number == syscall.ELOOP {
		return nil
	}
	return err
}
