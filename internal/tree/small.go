package tree

import (
	"errors"
	"io"
	"io/fs"
)

// smallFile in bytes bounds the files that are opened, written or read as a whole, and closed at
// once. A directory of many small files has most of them in one piece: to keep these open, with
// locks and a list of those that were used last, would cost as much as the system's calls.
const smallFile = 64 << 10

// isSmall reports whether part is all of a small file that is in the directory.
func (d *Dir) isSmall(part Piece) bool {
	return part.Size <= smallFile && part.Size == d.tree.size(part.File) && d.wants(part.File)
}

// claim reports whether file i has not been made, and notes that it is from now on.
func (d *Dir) claim(i int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.made[i]
	d.made[i] = true
	return !was
}

// createSmall makes file i, which was claimed, with all of its content.
func (d *Dir) createSmall(i int, content []byte) error {
	f := d.tree.File(i)
	in, base, err := d.dirs.acquire(f.Path)
	made := false
	if err == nil {
		defer d.dirs.release(in)
		made, err = in.dir.create(base, f.mode(), content)
	}
	if !made {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.made[i] = false
		return d.taken(f.Path, err)
	}
	return err
}

// readSmall reads all of file i, and reports whether all of it is there. A file that is open may
// be one that is being written.
func (d *Dir) readSmall(i int, into []byte) (there bool, err error) {
	d.mu.Lock()
	open := d.open[i] != nil || !d.reads && !d.made[i]
	d.mu.Unlock()
	if open {
		return false, nil
	}
	f := d.tree.File(i)
	in, base, err := d.dirs.acquire(f.Path)
	if err != nil {
		return false, err
	}
	defer d.dirs.release(in)
	n, err := in.dir.read(base, into)
	if err == nil && n < len(into) {
		err = io.EOF
	}
	if err == nil || !d.reads && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF)) {
		clear(into[n:])
		return true, nil
	}
	return false, err
}
