package tree

import (
	"fmt"
	"slices"

	"github.com/shardcast/shardcast/internal/shard"
)

// added is a file of a tree that is not in the directory.
type added struct {
	at      int // among the files
	content []byte
}

// Add has the tree have one more file, which is not in the directory. It must be called once, before
// anything is read. The error matches [ErrUnpublishable] if the tree has a file of that path, or
// cannot have one.
func (s *Source) Add(path string, content []byte) error {
	at, there := s.tree.Find(path)
	if there {
		return fmt.Errorf("%w: it has %s already; leave that out with --exclude", ErrUnpublishable, path)
	}
	if s.tree.Len() == shard.MaxFiles {
		return fmt.Errorf("%w: with %s, %s has more than %d files", ErrUnpublishable, path, s.dir, shard.MaxFiles)
	}
	t, err := lay(s.tree.Len()+1, func(yield func(File) bool) {
		more := true
		for i := 0; more && i <= s.tree.Len(); i++ {
			if i == at {
				more = yield(File{Path: path, Size: int64(len(content))})
			}
			if more && i < s.tree.Len() {
				more = yield(s.tree.File(i))
			}
		}
	})
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnpublishable, path, err)
	}
	s.tree, s.looks, s.added = t, slices.Insert(s.looks, at, likeness{}), &added{at, content}
	return nil
}

// addedContent reads the next bytes of part, of the added file's content.
func (s *Source) addedContent(p []byte, part Piece) int {
	n := copy(p, s.added.content[int64(len(s.added.content))-part.Size:])
	if s.sum == nil {
		return n // Apart has it
	}
	s.sum.Write(p[:n])
	if int64(n) == part.Size {
		s.sum.Sum(s.tree.digests[part.File][:0])
		s.sum.Reset()
	}
	return n
}
