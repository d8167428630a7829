package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/shardcast/shardcast/internal/oms"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// sign adds the signature of the files of the directory to its tree. It reads all of them for that,
// once more than their publication does.
func (s *source) sign(ctx context.Context, opts Options) error {
	if s.tree == nil {
		return errors.New("it is no directory, and a signature of a model is a file in one; see --sign-key for files")
	}
	before, err := tree.Open(s.path, opts.Tree)
	if err != nil {
		return err
	}
	defer before.Close()
	for buf := make([]byte, inputBuffer); err == nil; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, err = before.Read(buf)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if s.signed, err = before.Tree(); err != nil {
		return err
	}
	var files []oms.File
	for f := range s.signed.Files() {
		if !f.Directory {
			files = append(files, oms.File{Path: f.Path, Digest: f.Digest})
		}
	}
	signature, err := oms.Sign(opts.OMSKey, strings.TrimSuffix(s.name, treeSuffix), files)
	if err != nil {
		return err
	}
	if err := s.tree.Add(oms.FileName, signature); err != nil {
		return err
	}
	s.size = s.tree.Size()
	return nil
}

// asSigned returns an error matching [shard.ErrChanged] unless the files of t, which was published, are
// those that were signed.
func (s *source) asSigned(t *tree.Tree) error {
	if s.signed == nil {
		return nil
	}
	digests := make(map[string]shard.Digest)
	for f := range s.signed.Files() {
		digests[f.Path] = f.Digest
	}
	for f := range t.Files() {
		if digest, ok := digests[f.Path]; f.Path != oms.FileName && (!ok || digest != f.Digest) {
			return fmt.Errorf("%w: %s", shard.ErrChanged, f.Path)
		}
	}
	return nil
}
