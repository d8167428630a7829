package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// output is the partial file or directory of a download, and the [fetch.Sink] of its shards.
type output struct {
	dir     *os.Root
	base    string // the final name
	content partial.Content
	size    int64
	short   error          // why not all bytes have room, or nil
	resumed bool           // an earlier download's bytes may be in it
	seeds   []Seed         // that may be the base of a delta
	known   *reuse.Sources // bytes that need not be fetched; nil for none
	placed  bool           // it has the final name
	shared  *relay.Version // for peers to read, or nil
	pipe    *pipe          // that the shards go on to, or nil
	needed  map[int]bool   // the numbers of the shards that a part of a tree needs, or nil for all
}

// errInUse is the error for a second download to one path.
var errInUse = errors.New("another download to it is under way")

// create opens the partial file or directory at to for m, which is the tree t unless
// that is nil, and locks it against other downloads to the same path. Bytes of an earlier
// download of the same version stay in it, unless afresh is set. Where these and all others have no
// room, the output says so, and is of use only after [Client.begin]. The output closes the directory of
// to, and so does an error.
func create(
	ctx context.Context, to partial.Target, m shard.Manifest, t *tree.Tree, afresh bool,
) (out *output, err error) {
	out = &output{dir: to.Dir, base: to.Base, size: m.Size}
	out.content, out.resumed, err = partial.Open(ctx, to, m, t, afresh)
	if errors.Is(err, disk.ErrLocked) {
		err = errInUse
	}
	if err != nil {
		return nil, errors.Join(err, to.Dir.Close())
	}
	out.short = out.content.Begin(0)
	return out, nil
}

// path is the final path of the file.
func (o *output) path() string { return filepath.Join(o.dir.Name(), o.base) }

// partial is the path of the partial file.
func (o *output) partial() string { return filepath.Join(o.dir.Name(), partial.Name(o.base)) }

// commit gives the content its final name.
func (o *output) commit() error {
	if err := o.content.Place(); err != nil {
		return err
	}
	o.placed = true
	if err := disk.SyncDir(o.dir, "."); err != nil {
		return fmt.Errorf("all of it is there, but its name may not survive a crash: %w", err)
	}
	return nil
}

// copyChunk in bytes is copied to a writer between two looks at the context.
const copyChunk = 1 << 20

// copyTo copies from r to w, until ctx ends, and returns how many bytes.
func copyTo(ctx context.Context, w io.Writer, r io.Reader) (bytes int64, err error) {
	for ctx.Err() == nil {
		n, err := io.CopyN(w, r, copyChunk)
		if bytes += n; errors.Is(err, io.EOF) {
			return bytes, nil
		} else if err != nil {
			return bytes, err
		}
	}
	return bytes, context.Cause(ctx)
}

// close ends the use of the content. If it has no final name, it is kept for a later download
// if keep is set, with what has come of a delta, and removed otherwise.
func (o *output) close(keep bool) error {
	if !keep {
		for number := range fetch.MostSteps {
			// One in use is that of a file with such a name; others are abandoned.
			_ = partial.Remove(o.dir, deltaName(o.base, number))
		}
	}
	return errors.Join(o.content.End(keep), o.dir.Close())
}

// Open opens the place of s.
func (o *output) Open(s shard.Shard) (fetch.Place, error) {
	p := place{io.NewSectionReader(o.content, s.Offset, s.Size), o, s}
	if o.shared != nil {
		return o.shared.Tee(s.Number, p), nil
	}
	return p, nil
}

// place is the place of one shard in the content.
type place struct {
	io.ReaderAt

	out   *output
	shard shard.Shard
}

// Written returns the ranges that an earlier download may have written, and those that it
// copies from where they are known to be.
func (p place) Written() (there []disk.Range, err error) {
	if p.out.resumed {
		there, err = p.out.content.Written(p.shard.Offset, p.shard.Offset+p.shard.Size)
	}
	if err != nil {
		return nil, err
	}
	return p.out.known.Fill(p.shard, there, p)
}

// CopyAt copies to the content.
func (p place) CopyAt(src *os.File, from, offset, size int64) error {
	return p.out.content.CopyAt(src, from, p.shard.Offset+offset, size)
}

// WriteAt writes to the content.
func (p place) WriteAt(data []byte, offset int64) (int, error) {
	return p.out.content.WriteAt(data, p.shard.Offset+offset)
}

// Commit has the system begin to write the rest of the shard to the disk. The error matches
// [shard.ErrIntegrity] if the list of a tree's files is none of the shard.
func (p place) Commit() error {
	if err := p.out.content.Check(p.shard.Offset, p.shard.Size); err != nil {
		return err
	}
	p.out.content.Flush(p.shard.Offset, p.shard.Size)
	if p.out.pipe != nil {
		p.out.pipe.right <- p.shard.Number
	}
	return nil
}

// Close does nothing: the output closes the content.
func (p place) Close() error { return nil }
