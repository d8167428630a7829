package offers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// Files returns the tree that m describes, from one of the servers that list the version. It
// writes the list of files, as it came, to the writer that keep returns for each server that
// is asked, and commits that if the list is right. A nil keep keeps nothing.
//
// Errors match [shard.ErrIntegrity] if no server has the list that the manifest describes, or
// if that says of files what cannot be, are those of keep and of its writer, or of
// [roster.Roster.Try].
func (o *Offers) Files(
	ctx context.Context, m Manifest, keep func() (shard.Writer, error),
) (t *tree.Tree, err error) {
	if keep == nil {
		keep = func() (shard.Writer, error) { return discarded{io.Discard}, nil }
	}
	job := o.description(m.Entry).Job(func(s *remote.Server) (err error) {
		t, err = o.filesAt(ctx, s, m, keep)
		return err
	})
	job.First = m.Source
	err = o.opts.Roster.Try(ctx, job)
	return t, err
}

// filesAt gets the list of files from s.
func (o *Offers) filesAt(
	ctx context.Context, s *remote.Server, m Manifest, keep func() (shard.Writer, error),
) (*tree.Tree, error) {
	path := []string{m.Entry.Version.String(), shard.FilesName}
	body, err := o.opts.Remote.Get(ctx, s, remote.Request{Path: path})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	to, err := keep()
	if err != nil {
		return nil, &roster.Setback{Err: err, What: roster.Stop}
	}
	defer to.Close()
	kept := &keeping{to: to}
	t, err := tree.Parse(io.TeeReader(body, kept), *m.Stated.Files)
	if err == nil && t.Size() != m.Stated.Size {
		err = fmt.Errorf("%w: its files make %d bytes, and the manifest states %d",
			tree.ErrTree, t.Size(), m.Stated.Size)
	}
	switch {
	case kept.err != nil:
		return nil, &roster.Setback{Err: kept.err, What: roster.Stop}
	case errors.Is(err, shard.ErrDigest):
		return nil, roster.Wrong(fmt.Errorf("%s: %w", s.Name, err))
	case errors.Is(err, tree.ErrTree): // as the manifest describes it, so no server has a better one
		return nil, &roster.Setback{Err: err, What: roster.Stop}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := to.Commit(); err != nil {
		return nil, &roster.Setback{Err: err, What: roster.Stop}
	}
	return t, nil
}

// keeping notes the error of a writer, which is none of the server's.
type keeping struct {
	to  io.Writer
	err error
}

// Write writes to the writer.
func (k *keeping) Write(p []byte) (n int, err error) {
	n, k.err = k.to.Write(p)
	return n, k.err
}

// discarded is a [shard.Writer] that keeps nothing.
type discarded struct{ io.Writer }

// Commit does nothing.
func (discarded) Commit() error { return nil }

// Close does nothing.
func (discarded) Close() error { return nil }
