package partial

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// Content is where the bytes of a version arrive: a partial file, or a partial directory of files. Offsets
// are those in the version's stream.
type Content interface {
	io.ReaderAt
	io.WriterAt

	// CopyAt is WriteAt with size bytes of src from the offset from on, see [disk.Copy].
	CopyAt(src *os.File, from, offset, size int64) error

	// Begin makes the content ready for its bytes. The error matches [disk.ErrNoSpace] if there is no
	// room for those that are not there, less the shared ones, which take none.
	Begin(shared int64) error

	// Shared returns how many of the bytes that CopyAt copies take no room, see [disk.Shared].
	Shared(src *os.File, from, offset, size int64) int64

	// Written returns the parts between two offsets that an earlier download may have
	// Written, counted from the first one.
	Written(from, to int64) ([]disk.Range, error)

	// Check returns nil if a part, which is right, agrees with the list of a tree's files.
	// Otherwise the error matches [shard.ErrIntegrity].
	Check(offset, size int64) error

	// Flush has the system begin to write a part to the disk.
	Flush(offset, size int64)

	// Place gives the content its final name, when all of it is on the disk.
	Place() error

	// End ends the use of the content. One without a final name is kept for a later download
	// if keep is set, and removed otherwise.
	End(keep bool) error

	// Share returns a reader of the bytes that is closed by itself.
	Share() (Reader, error)
}

// Reader reads the bytes of a content, also after its end.
type Reader interface {
	io.ReaderAt
	io.Closer
}

// A Target is where a content gets its final name.
type Target struct {
	// Dir has the content, also while it is partial. It stays open for as long as that.
	Dir  *os.Root
	Base string

	// Replace lets a tree replace a directory of that name, see [CheckTree].
	Replace bool

	// MayReplace is asked right before, and its error prevents it. Nil allows it.
	MayReplace func() error

	// Part are the files of a tree to have. Nil means all.
	Part *tree.Part
}

// lockWait is how long a download waits for another one to the same path. The process
// of that one may have been killed and not have ended yet.
const lockWait = time.Second

// Open opens the partial file or directory at to for m, which is the tree t unless that is nil, and locks it
// against other downloads to the same name: [Content.End] ends that. It reports whether bytes of an earlier download
// of m are in it, also with an error; with afresh set, these go. The error matches [disk.ErrLocked] if another
// download uses it.
func Open(ctx context.Context, to Target, m shard.Manifest, t *tree.Tree, afresh bool) (Content, bool, error) {
	limited, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if t == nil {
		f, resumed, err := openFile(limited, to.Dir, to.Base, m, afresh)
		if err != nil {
			return nil, resumed, err
		}
		return f, resumed, nil
	}
	d, resumed, err := openTree(limited, to, m, t, afresh)
	if err != nil {
		return nil, resumed, err
	}
	return d, resumed, nil
}
