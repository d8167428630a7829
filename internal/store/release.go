package store

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
)

// The name of the publisher's signed list in a data directory, and its largest size in bytes.
const (
	ReleaseName = "release.txt"
	maxRelease  = 4 << 20
)

// Release opens release.txt, as it is written. The error matches [fs.ErrNotExist] if there is
// none.
func (s *Store) Release() (*os.File, error) { return disk.OpenRegular(s.root, ReleaseName) }

// StatRelease describes the file that [Store.Release] opens. The error matches
// [fs.ErrNotExist] if there is none.
func (s *Store) StatRelease() (fs.FileInfo, error) { return s.root.Stat(ReleaseName) }

// ReadRelease reads a file that [Store.Release] has opened, 4 MiB at most.
func ReadRelease(f *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxRelease+1))
	if err == nil && len(text) > maxRelease {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), maxRelease)
	}
	return text, err
}
