package store

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Part is the file of a shard in a draft, with any bytes of it. It may be the file of another
// version's shard, by a hard link: that is never written to, since the first write replaces it
// by an empty file. The methods may be called from any goroutine.
type Part struct {
	root *os.Root
	name string

	mu     sync.RWMutex // guards what follows
	file   *os.File
	linked bool // to another version's shard
}

// Open opens shard number, of size bytes, for reading and writing in place, with the bytes that
// were written before, also by another program under the longer name. Any of them may be wrong.
// The file is made if it is missing, and has no more than size bytes.
func (d *Draft) Open(number int, size int64) (*Part, error) {
	root := d.store.root
	name, long := path.Join(d.path(), shard.FileName(number)), path.Join(d.path(), shard.LongFileName(number))
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if other, err := root.Lstat(long); err == nil && other.Mode().IsRegular() {
			if err := root.Rename(long, name); err != nil {
				return nil, err
			}
			info = other
		}
	}
	p := &Part{root: root, name: name}
	if info != nil && info.Mode().IsRegular() && disk.Links(info) > 1 {
		p.linked = true
		if p.file, err = disk.OpenRegular(root, name); err != nil {
			return nil, err
		}
		if info.Size() == size {
			return p, nil
		}
		if err := p.own(); err != nil {
			return nil, errors.Join(err, p.file.Close())
		}
		return p, nil
	}
	if p.file, err = disk.OpenOwn(root, name, 0o666); err != nil {
		return nil, err
	}
	if info, err = p.file.Stat(); err == nil && info.Size() > size {
		err = p.file.Truncate(size) // another manifest had larger shards
	}
	if err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	return p, nil
}

// own replaces a link by an empty file.
func (p *Part) own() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.linked {
		return nil // another write was first
	}
	if err := p.root.Remove(p.name); err != nil {
		return err
	}
	f, err := p.root.OpenFile(p.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_ = p.file.Close() // nothing was written to it
	p.file, p.linked = f, false
	return nil
}

// change calls write with the file, which is no other version's.
func (p *Part) change(write func(*os.File) error) error {
	p.mu.RLock()
	for p.linked {
		p.mu.RUnlock()
		if err := p.own(); err != nil {
			return err
		}
		p.mu.RLock()
	}
	defer p.mu.RUnlock()
	return write(p.file)
}

// ReadAt reads from the file.
func (p *Part) ReadAt(data []byte, offset int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.file.ReadAt(data, offset)
}

// WriteAt writes to the file.
func (p *Part) WriteAt(data []byte, offset int64) (n int, err error) {
	err = p.change(func(f *os.File) error {
		n, err = f.WriteAt(data, offset)
		return err
	})
	return n, err
}

// CopyAt is WriteAt with size bytes of src from the offset from on, see [disk.Copy].
func (p *Part) CopyAt(src *os.File, from, offset, size int64) error {
	return p.change(func(f *os.File) error { return disk.Copy(f, offset, src, from, size) })
}

// Written returns the ranges of the first size bytes that may have been written, see
// [disk.Written].
func (p *Part) Written(size int64) ([]disk.Range, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.linked { // it was whole where it was linked from, so it may have holes
		return []disk.Range{{To: size}}, nil
	}
	return disk.Written(p.file, 0, size)
}

// Sync writes the file through to the disk.
func (p *Part) Sync() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.file.Sync()
}

// Close closes the file, and keeps it.
func (p *Part) Close() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.file.Close()
}

// Link makes shard number of the draft the same file as shard its of another version, which is
// here. Nothing is verified. The error matches [fs.ErrExist] if the draft has that shard, and
// [fs.ErrNotExist] if the version has not; file systems without hard links have others.
func (d *Draft) Link(number int, version shard.Version, its int) error {
	from := path.Join(version.String(), shard.FileName(its))
	info, err := d.store.root.Lstat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "link", Path: from, Err: fs.ErrNotExist}
	}
	return d.store.root.Link(from, path.Join(d.path(), shard.FileName(number)))
}
