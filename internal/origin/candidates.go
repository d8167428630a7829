package origin

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/disk"
)

// likeness distinguishes a file from another one without reading it, whatever its name.
type likeness struct {
	size  int64  // bytes
	mtime int64  // nanoseconds since 1970
	inode uint64 // zero where there is none
}

func likenessOf(info fs.FileInfo) likeness {
	return likeness{size: info.Size(), mtime: info.ModTime().UnixNano(), inode: disk.Inode(info)}
}

// candidate is a file in a watched directory that may be broadcast.
type candidate struct {
	name   string // with slashes, from the watched directory
	looks  likeness
	marked bool // the marker was written after the file
}

// candidates returns the files of w in the order of their broadcast, and the directories
// that they are in or may appear in. It omits the directory data, and with a marker the files
// without one beside them. An error is about a part of the files; the others are returned
// all the same.
func (w Watch) candidates(data string) (found []candidate, dirs []string, err error) {
	pattern, glob, below := strings.Cut(w.Glob, "/")
	if !below {
		found, err = w.within(".", pattern)
		dirs = []string{w.Dir}
	} else {
		found, dirs, err = w.below(data, pattern, glob)
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.looks.mtime, b.looks.mtime), cmp.Compare(a.name, b.name))
	})
	return found, dirs, err
}

// below returns the files that match glob in the directories that match pattern.
func (w Watch) below(data, pattern, glob string) (found []candidate, dirs []string, err error) {
	entries, err := os.ReadDir(w.Dir)
	if err != nil {
		return nil, []string{w.Dir}, err
	}
	dirs = append(dirs, w.Dir)
	private, _ := os.Stat(data)
	for _, e := range entries {
		if !e.IsDir() || !matches(pattern, e.Name()) {
			continue
		}
		// Published files are not to be published again.
		if info, err := e.Info(); err != nil || private != nil && os.SameFile(info, private) {
			continue
		}
		files, bad := w.within(e.Name(), glob)
		if bad != nil && !errors.Is(bad, fs.ErrNotExist) {
			err = errors.Join(err, bad)
		}
		found = append(found, files...)
		dirs = append(dirs, filepath.Join(w.Dir, e.Name()))
	}
	return found, dirs, err
}

// within returns the files that match glob in the directory dir of w.Dir.
func (w Watch) within(dir, glob string) ([]candidate, error) {
	place := filepath.Join(w.Dir, dir)
	entries, err := os.ReadDir(place)
	if err != nil {
		return nil, err
	}
	var marker fs.FileInfo
	if w.Marker != "" {
		if marker, err = os.Stat(filepath.Join(place, w.Marker)); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	var found []candidate
	for _, e := range entries {
		if !e.Type().IsRegular() || !matches(glob, e.Name()) || e.Name() == w.Marker {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, candidate{
			name: path.Join(dir, e.Name()), looks: likenessOf(info),
			marked: marker != nil && !marker.ModTime().Before(info.ModTime()),
		})
	}
	return found, nil
}

// matches reports whether name is not hidden, and matches glob.
func matches(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil && !strings.HasPrefix(name, ".")
}
