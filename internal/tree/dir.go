package tree

import (
	"bytes"
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
)

// maxOpen bounds the files of a [Dir] that are open at the same time.
const maxOpen = 256

// A Dir is a directory that the stream of a tree is written to, in any order. What is in it
// is the tree's alone; an earlier Dir of the same tree may have begun it. Its methods but
// Finish and Close may be called from any goroutine.
type Dir struct {
	root  *os.Root
	tree  *Tree
	began bool       // by an earlier Dir
	reads bool       // and does not write
	rest  *remainder // or nil
	dirs  parents

	mu    sync.Mutex      // guards the fields below
	made  []bool          // whether each file of the tree has been made
	there map[string]bool // the directories that have been made
	open  map[int]*file
	idle  list.List // of these, as *file, those without a user; the last one was used last

	// differs are the bytes, by their offsets, that were written as others than follow from
	// the list: from a server that sends wrong ones, or by a list that is none of the stream.
	differs map[int64]byte
}

// maxDiffers bounds the bytes that a [Dir] notes as different. Further ones read as they
// follow from the list.
const maxDiffers = 1 << 16

// file is an open file of a Dir.
type file struct {
	of    *os.File
	index int // in the tree
	users int
	idle  *list.Element // in the list of idle files, or nil

	// writing is held for each write: file systems let one write to a file at a time, and
	// the others spin on a processor until their turn.
	writing sync.Mutex
}

// NewDir returns the Dir of t in root, which it does not close, and makes the directories of
// t there. The error matches [ErrClash], and names two paths, if the file system takes them
// for one.
func NewDir(root *os.Root, t *Tree) (*Dir, error) { return newDir(root, t, nil) }

func newDir(root *os.Root, t *Tree, rest *remainder) (*Dir, error) {
	d := &Dir{
		root: root, tree: t, rest: rest, began: rest != nil && rest.began,
		made: make([]bool, t.Len()), there: map[string]bool{".": true}, differs: make(map[int64]byte),
		open: make(map[int]*file), dirs: parents{root: root},
	}
	err := disk.Walk(root, ".", func(name string, entry fs.DirEntry, err error) error {
		d.began = true
		if err == nil && entry.IsDir() {
			d.there[name] = true
		} else if i, ok := t.Find(name); ok {
			d.made[i] = true
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range t.Len() {
		if !d.wants(i) {
			continue
		}
		f := t.File(i)
		parent := path.Dir(f.Path)
		if f.Directory {
			parent = f.Path
		}
		if err := d.makeDirectory(parent); err != nil {
			return nil, err
		}
	}
	return d, d.makeAlike()
}

// NewReader returns a Dir of t in root, which [Dir.Close] closes too, for [Dir.ReadAt] alone:
// another Dir may write to the files. Contents that are not there, or not any more, are errors.
func NewReader(root *os.Root, t *Tree) *Dir {
	return &Dir{root: root, tree: t, reads: true, open: make(map[int]*file), dirs: parents{root: root}}
}

// Tree returns the tree.
func (d *Dir) Tree() *Tree { return d.tree }

// makeDirectory makes the directory name and those that it is in, unless they are there.
func (d *Dir) makeDirectory(name string) error {
	if d.there[name] {
		return nil
	}
	if err := d.makeDirectory(path.Dir(name)); err != nil {
		return err
	}
	if err := d.root.Mkdir(filepath.FromSlash(name), 0o777); err != nil {
		return d.taken(name, err)
	}
	d.there[name] = true
	return nil
}

// makeAlike makes the files whose paths differ only in case, so that a file system that
// takes them for one is found out before anything else is written.
func (d *Dir) makeAlike() error {
	seed := maphash.MakeSeed()
	type folded struct {
		hash uint64
		file int
	}
	all := make([]folded, 0, d.tree.Len())
	for i := range d.tree.Len() {
		if f := d.tree.File(i); !f.Directory && d.wants(i) {
			all = append(all, folded{maphash.String(seed, strings.ToLower(f.Path)), i})
		}
	}
	slices.SortFunc(all, func(a, b folded) int { return cmp.Compare(a.hash, b.hash) })
	for n := 1; n < len(all); n++ {
		if all[n].hash != all[n-1].hash {
			continue
		}
		for _, i := range []int{all[n-1].file, all[n].file} {
			at, err := d.acquire(i, true)
			if err != nil {
				return err
			}
			d.release(at)
		}
	}
	return nil
}

// taken explains why name, which was not there before, cannot be made: if another path of
// the tree stands for the same file, err names both.
func (d *Dir) taken(name string, err error) error {
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	mine, statErr := d.root.Lstat(filepath.FromSlash(name))
	if statErr != nil {
		return err
	}
	alike := ""
	for other := range d.names() {
		if info, statErr := d.root.Lstat(filepath.FromSlash(other)); statErr == nil && os.SameFile(mine, info) {
			return clash(other, name)
		}
		if strings.EqualFold(other, name) {
			alike = other
		}
	}
	if alike != "" { // a file system in user space may count each of the two as a file of its own
		return clash(alike, name)
	}
	return err
}

func clash(a, b string) error {
	return fmt.Errorf("%w: the file system takes %q and %q for one", ErrClash, a, b)
}

// names yields the paths of files and directories that have been made.
func (d *Dir) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range d.there {
			if !yield(name) {
				return
			}
		}
		for i, made := range d.made {
			if made && !yield(d.tree.paths.at(i)) {
				return
			}
		}
	}
}

// acquire returns file i, open. One that has not been made is made if create is set, and
// otherwise the error matches [fs.ErrNotExist]. The caller releases it.
func (d *Dir) acquire(i int, create bool) (*file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.open[i]
	if f == nil {
		if len(d.open) >= maxOpen {
			if err := d.closeLast(); err != nil {
				return nil, err
			}
		}
		opened, err := d.openFile(i, create)
		if err != nil {
			return nil, err
		}
		f = &file{of: opened, index: i}
		d.open[i] = f
	}
	if f.idle != nil {
		d.idle.Remove(f.idle)
		f.idle = nil
	}
	f.users++
	return f, nil
}

// openFile opens file i.
func (d *Dir) openFile(i int, create bool) (*os.File, error) {
	f := d.tree.File(i)
	flag := os.O_RDWR | nonblock
	switch {
	case d.reads:
		flag = os.O_RDONLY | nonblock
	case d.made[i]:
	case create:
		flag = os.O_RDWR | os.O_CREATE | os.O_EXCL
	default:
		return nil, fs.ErrNotExist
	}
	in, base, err := d.dirs.acquire(f.Path)
	if err != nil {
		return nil, err
	}
	defer d.dirs.release(in)
	opened, err := in.dir.openFile(base, flag, f.mode())
	if err != nil {
		return nil, d.taken(f.Path, err)
	}
	if !d.reads {
		d.made[i] = true
	}
	return opened, nil
}

// closeLast closes the file that has been idle for longest. If all are in use, one more is
// open.
func (d *Dir) closeLast() error {
	first := d.idle.Front()
	if first == nil {
		return nil
	}
	f, _ := d.idle.Remove(first).(*file)
	delete(d.open, f.index)
	return f.of.Close()
}

// release ends a use of f.
func (d *Dir) release(f *file) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.users--; f.users == 0 {
		f.idle = d.idle.PushBack(f)
	}
}

// flushed in bytes is the unit in which the system is asked to write to the disk, so that
// little is left for the sync at the end.
const flushed = 8 << 20

// WriteAt writes the bytes of p that are files' contents to their files. Of the others, which
// follow from the list, it notes those that do not agree.
func (d *Dir) WriteAt(p []byte, offset int64) (n int, err error) {
	for part := range d.tree.Pieces(offset, int64(len(p))) {
		from := p[n : int64(n)+part.Size]
		if part.File < 0 {
			d.compare(part, from)
		} else if err := d.write(part, from); err != nil {
			return n, err
		}
		n += int(part.Size)
	}
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// CopyAt is [Dir.WriteAt] with size bytes of src from the offset from on, see [disk.Copy]. It
// passes over what follows from the list.
func (d *Dir) CopyAt(src *os.File, from, offset, size int64) error {
	for part := range d.tree.Pieces(offset, size) {
		if part.File < 0 {
			continue
		}
		err := d.change(part, func(f *os.File, at int64) error {
			return disk.Copy(f, at, src, from+part.Offset-offset, part.Size)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Shared returns how many of the bytes that CopyAt copies take no room, see [disk.Shared].
func (d *Dir) Shared(src *os.File, from, offset, size int64) (shared int64) {
	for part := range d.tree.Pieces(offset, size) {
		if part.File < 0 {
			continue
		}
		at := part.At
		if !d.wants(part.File) {
			at = part.Offset
		}
		shared += disk.Shared(d.root, at, src, from+part.Offset-offset, part.Size)
	}
	return shared
}

func (d *Dir) write(part Piece, p []byte) error {
	if d.isSmall(part) && d.claim(part.File) {
		return d.createSmall(part.File, p)
	}
	return d.change(part, func(f *os.File, at int64) error {
		_, err := f.WriteAt(p, at)
		return err
	})
}

// change calls write with the file that has part, and where part begins in it: one call at a
// time for each file of the directory.
func (d *Dir) change(part Piece, write func(f *os.File, at int64) error) error {
	if !d.wants(part.File) {
		return write(d.rest.file, part.Offset)
	}
	f, err := d.acquire(part.File, true)
	if err != nil {
		return err
	}
	defer d.release(f)
	f.writing.Lock()
	err = write(f.of, part.At)
	f.writing.Unlock()
	if from, end := part.At/flushed*flushed, (part.At+part.Size)/flushed*flushed; part.At < end {
		_ = disk.Flush(f.of, from, end-from) // see Finish
	}
	return err
}

// compare notes which bytes of p differ from those of part, which follow from the list.
func (d *Dir) compare(part Piece, p []byte) {
	var space [2 * block]byte // has room for most parts
	made := space[:]
	if part.Size > int64(len(space)) {
		made = make([]byte, part.Size)
	}
	made = made[:part.Size]
	d.tree.make(part, made)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.differs) == 0 && bytes.Equal(p, made) {
		return
	}
	for i, b := range p {
		if at := part.Offset + int64(i); b == made[i] {
			delete(d.differs, at)
		} else if len(d.differs) < maxDiffers {
			d.differs[at] = b
		}
	}
}

// Check returns nil if the size bytes from offset on, which were written and are the
// stream's, are those of the list. Otherwise the error matches [ErrTree] and names a path.
func (d *Dir) Check(offset, size int64) error {
	d.mu.Lock()
	agree := len(d.differs) == 0
	d.mu.Unlock()
	if agree {
		return nil
	}
	return d.tree.Check(io.NewSectionReader(d, offset, size), offset, size)
}

// ReadAt reads the stream from the files, and what follows from the list as it was written.
// Contents that have not been written are zeros.
func (d *Dir) ReadAt(p []byte, offset int64) (n int, err error) {
	for part := range d.tree.Pieces(offset, int64(len(p))) {
		into := p[n : int64(n)+part.Size]
		if part.File < 0 {
			d.readMade(part, into)
		} else if err := d.read(part, into); err != nil {
			return n, err
		}
		n += int(part.Size)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readMade reads part, which follows from the list.
func (d *Dir) readMade(part Piece, into []byte) {
	d.tree.make(part, into)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.differs) == 0 {
		return
	}
	for i := range into {
		if b, ok := d.differs[part.Offset+int64(i)]; ok {
			into[i] = b
		}
	}
}

func (d *Dir) read(part Piece, into []byte) error {
	if d.isSmall(part) {
		if there, err := d.readSmall(part.File, into); there || err != nil {
			return err
		}
	}
	n := 0
	if !d.wants(part.File) {
		n, err := d.rest.file.ReadAt(into, part.Offset)
		clear(into[n:])
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	f, err := d.acquire(part.File, false)
	if err == nil {
		defer d.release(f)
		n, err = f.of.ReadAt(into, part.At)
	}
	if err == nil || !d.reads && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF)) {
		clear(into[n:])
		return nil
	}
	return err
}

// Written returns the parts of the stream between from and to that may have been written by
// an earlier Dir, ascending and counted from from, as [disk.Written] does. Parts that follow
// from the list count with those beside them.
func (d *Dir) Written(from, to int64) ([]disk.Range, error) {
	if !d.began {
		return nil, nil
	}
	var all []disk.Range
	add := func(r disk.Range) {
		if last := len(all) - 1; last >= 0 && all[last].To == r.From {
			all[last].To = r.To
		} else if r.From < r.To {
			all = append(all, r)
		}
	}
	for part := range d.tree.Pieces(from, to-from) {
		start := part.Offset - from
		if part.File < 0 {
			add(disk.Range{From: start, To: start + part.Size})
			continue
		}
		ranges, err := d.writtenOf(part)
		if err != nil {
			return nil, err
		}
		for _, r := range ranges {
			add(disk.Range{From: start + r.From, To: start + r.To})
		}
	}
	return all, nil
}

func (d *Dir) writtenOf(part Piece) ([]disk.Range, error) {
	if !d.wants(part.File) {
		return disk.Written(d.rest.file, part.Offset, part.Offset+part.Size)
	}
	f, err := d.acquire(part.File, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.release(f)
	return disk.Written(f.of, part.At, part.At+part.Size)
}

// Finish makes the files that have no content, removes whatever is in the directory beside
// the tree, and syncs all to the disk. Everything must have been written.
func (d *Dir) Finish() error {
	for i := range d.tree.Len() {
		if f := d.tree.File(i); !f.Directory && f.Size == 0 && d.wants(i) {
			at, err := d.acquire(i, true)
			if err != nil {
				return err
			}
			d.release(at)
		}
	}
	if err := d.closeFiles(); err != nil {
		return err
	}
	return cmp.Or(d.check(), disk.SyncTree(d.root))
}

// check returns an error unless the directory has the files of the tree and no others.
func (d *Dir) check() error {
	if !d.began {
		return nil // all that is there was made here, exclusively
	}
	return disk.Walk(d.root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		i, ok := d.tree.Find(name)
		if !ok || !d.wants(i) {
			return fmt.Errorf("%s is not of the version; remove it", filepath.Join(d.root.Name(), name))
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if f := d.tree.File(i); !info.Mode().IsRegular() || info.Size() != f.Size {
			return fmt.Errorf("%s is not the file that was written: %s, %d bytes instead of %d",
				filepath.Join(d.root.Name(), name), info.Mode(), info.Size(), f.Size)
		}
		return nil
	})
}

func (d *Dir) closeFiles() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, f := range d.open {
		err = errors.Join(err, f.of.Close())
	}
	clear(d.open)
	d.idle.Init()
	return errors.Join(err, d.dirs.close())
}

// Close closes the files. It keeps what was written.
func (d *Dir) Close() error {
	err := d.closeFiles()
	if d.reads {
		err = errors.Join(err, d.root.Close())
	}
	return err
}
