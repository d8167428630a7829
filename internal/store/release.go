package store

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/release"
)

// Release opens release.txt, as it is written. The error matches [fs.ErrNotExist] if there is
// none.
func (s *Store) Release() (*os.File, error) { return disk.OpenRegular(s.root, release.FileName) }

// StatRelease describes the file that [Store.Release] opens. The error matches
// [fs.ErrNotExist] if there is none.
func (s *Store) StatRelease() (fs.FileInfo, error) { return s.root.Stat(release.FileName) }

// ReadRelease reads a file that [Store.Release] has opened, 4 MiB at most.
func ReadRelease(f *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, release.MaxSize+1))
	if err == nil && len(text) > release.MaxSize {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), release.MaxSize)
	}
	return text, err
}
