package compare

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// chunk in bytes is read between two looks at the context.
const chunk = 1 << 20

// IsPart reports whether the directory full has the files of part and no others. It logs before it reads
// the files, and is false for what cannot be read, and when ctx has ended.
func IsPart(ctx context.Context, full string, part *tree.Part, logger *slog.Logger) bool {
	source, err := tree.Open(full, tree.Options{})
	if err != nil {
		return false
	}
	defer source.Close()
	want := part.Tree()
	if source.Size() != want.Size() {
		return false
	}
	logger.Info("verifying directory", "path", full)
	for ctx.Err() == nil {
		if _, err := io.CopyN(io.Discard, source, chunk); errors.Is(err, io.EOF) {
			there, err := source.Tree()
			return err == nil && bytes.Equal(there.Encode(), want.Encode())
		} else if err != nil {
			return false
		}
	}
	return false
}

// IsTree reports whether the directory full is the tree of m, whose digest is SHA-256. It logs before it reads
// the files, and is false for what cannot be read, and when ctx has ended.
func IsTree(ctx context.Context, full string, m shard.Manifest, logger *slog.Logger) bool {
	source, err := tree.Open(full, tree.Options{})
	if err != nil {
		return false
	}
	defer source.Close()
	if source.Size() != m.Size {
		return false
	}
	logger.Info("verifying directory", "path", full)
	digest := sha256.New()
	for ctx.Err() == nil {
		if _, err := io.CopyN(digest, source, chunk); errors.Is(err, io.EOF) {
			_, err = source.Tree()
			return err == nil && shard.Digest(digest.Sum(nil)) == m.Digest
		} else if err != nil {
			return false
		}
	}
	return false
}
