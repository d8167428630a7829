//go:build !linux && !darwin

package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// parent is a directory in which files are opened by their names.
type parent struct{ dir *os.Root }

// openParent opens the directory name in root. No link leads it out of root.
func openParent(root *os.Root, name string) (*parent, error) {
	dir, err := root.OpenRoot(name)
	return &parent{dir}, err
}

func (p *parent) close() error { return p.dir.Close() }

// openFile opens the file base.
func (p *parent) openFile(base string, flag int, mode fs.FileMode) (*os.File, error) {
	return p.dir.OpenFile(base, flag, mode)
}

// create makes the file base, which must not be there, with a content. It reports whether the
// file was made, also with an error.
func (p *parent) create(base string, mode fs.FileMode, content []byte) (made bool, err error) {
	f, err := p.dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return false, err
	}
	_, err = f.Write(content)
	return true, errors.Join(err, f.Close())
}

// read reads the beginning of the file base into p, and returns how many bytes there are, up to
// as many as have room.
func (p *parent) read(base string, into []byte) (n int, err error) {
	f, err := p.dir.OpenFile(base, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return 0, err
	}
	if n, err = io.ReadFull(f, into); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, errors.Join(err, f.Close())
}
