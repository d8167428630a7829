//go:build linux || darwin

package tree

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// parent is a directory in which files are opened by their names, by the system's calls alone:
// [os.Root] makes four more for each file.
type parent struct {
	dir *os.File
	raw syscall.RawConn
}

// openParent opens the directory name in root. No link leads it out of root.
func openParent(root *os.Root, name string) (*parent, error) {
	dir, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &parent{dir, raw}, nil
}

func (p *parent) close() error { return p.dir.Close() }

// openAt opens the file base, which is no path, and follows no link.
func (p *parent) openAt(base string, flag int, mode fs.FileMode) (fd int, err error) {
	failed := p.raw.Control(func(dir uintptr) {
		for fd, err = -1, unix.EINTR; errors.Is(err, unix.EINTR); {
			fd, err = unix.Openat(int(dir), base, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(mode))
		}
	})
	if err = cmp.Or(failed, err); err != nil {
		return -1, &fs.PathError{Op: "openat", Path: base, Err: err}
	}
	return fd, nil
}

// openFile opens the file base, which is no path, and follows no link.
func (p *parent) openFile(base string, flag int, mode fs.FileMode) (*os.File, error) {
	fd, err := p.openAt(base, flag, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// create makes the file base, which must not be there, with a content. It reports whether the
// file was made, also with an error.
func (p *parent) create(base string, mode fs.FileMode, content []byte) (made bool, err error) {
	fd, err := p.openAt(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return false, err
	}
	for len(content) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, content); errors.Is(err, unix.EINTR) {
			n, err = 0, nil
		}
		content = content[max(n, 0):]
	}
	if failed := unix.Close(fd); err == nil && !errors.Is(failed, unix.EINTR) {
		err = failed
	}
	if err != nil {
		err = &fs.PathError{Op: "write", Path: base, Err: err}
	}
	return true, err
}

// read reads the beginning of the file base into p, and returns how many bytes there are, up to
// as many as have room.
func (p *parent) read(base string, into []byte) (n int, err error) {
	fd, err := p.openAt(base, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return 0, err
	}
	for n < len(into) {
		got, err := unix.Read(fd, into[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			_ = unix.Close(fd)
			return n, &fs.PathError{Op: "read", Path: base, Err: err}
		}
		if got == 0 {
			break
		}
		n += got
	}
	return n, unix.Close(fd)
}
