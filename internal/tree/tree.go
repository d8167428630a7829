// Package tree turns a directory into a stream of bytes and back: the canonical tar of its
// files. It refuses to know versions, shards and servers. A receiver never parses a tar: all
// bytes that are not in a file follow from the list of files.
//
// What a caller may lean on: directories with equal files have equal streams; of a [Tree] no
// path leads out of its directory, none is there twice, and its offsets agree with its sizes.
//
// # The stream
//
// It holds the regular files of a directory, and its empty directories, in the order of the
// bytes of their paths, which have slashes and no slash at the end: a-b comes before a/b. Each
// is a header of 512 bytes (POSIX.1-2017, pax, "ustar Interchange Format"), and a file's
// content up to the next multiple of 512 bytes, with zeros. Two blocks of zeros end the stream.
// In a header
//
//	name      the path, with a slash at its end if it is a directory
//	mode      "0000644" NUL, or "0000755" NUL for a directory and a file that its owner may execute
//	uid, gid, devmajor, devminor   "0000000" NUL
//	size      11 octal digits and NUL
//	mtime     "00000000000" NUL
//	checksum  six octal digits, NUL and a space
//	typeflag  "0", or "5" for a directory
//	magic     "ustar" NUL "00"
//
// and all other bytes are NUL. A name of more than 100 bytes is divided at a slash into prefix
// and name; the prefix is the longest of at most 155 bytes. Where the path is not ASCII, or
// cannot be divided so that at most 100 bytes are left, or the size is 2^33 or more, a pax
// header comes first (typeflag "x", name "pax", mode 0000644) with the record path, and from
// 2^33 on the record size. The header after it has the name "file", no prefix, and a size of 0
// if there is a record of it.
//
// # The list
//
// files.jsonl has a JSON object (RFC 8259) in each line, in the order of the stream:
//
//	{"path":"config.json","size":812,"offset":512,"digest":"<SHA-256>"}
//	{"path":"logs","directory":true}
//	{"path":"run.sh","size":90,"offset":2560,"digest":"<SHA-256>","executable":true}
//
// It has at most [shard.MaxFiles] lines and [shard.MaxFilesSize] bytes. The offset is where the content
// begins in the stream. [Parse] skips members that are not named here.
package tree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// maxPath and maxElement bound a path and each of its elements, in bytes. File systems
	// have these bounds (PATH_MAX and NAME_MAX of Linux).
	maxPath, maxElement = 4096, 255
)

// ErrTree means that a list of files contradicts itself, the format or its stream. It matches
// [shard.ErrIntegrity].
var ErrTree error = badList{}

type badList struct{}

func (badList) Error() string { return "bad list of files" }

// Is reports whether target is [shard.ErrIntegrity].
func (badList) Is(target error) bool { return target == shard.ErrIntegrity }

// ErrClash means that the file system takes two paths of a tree for one.
var ErrClash = errors.New("the directory cannot be written here")

// A File is a regular file of a tree, or an empty directory.
type File struct {
	// Path leads from the tree's directory to the file, with slashes.
	Path string

	// Directory says that it is an empty directory. Such a one has no other properties.
	Directory bool

	// Executable says that its owner may execute it.
	Executable bool

	// Size is the content's, in bytes.
	Size int64

	// Offset is where the content begins in the stream.
	Offset int64

	// Digest is that of the content.
	Digest shard.Digest
}

// mode is the mode that the file gets, less what the process masks.
func (f File) mode() fs.FileMode {
	if f.Executable {
		return 0o777
	}
	return 0o666
}

// A Tree is a checked list of files, and the stream that follows from it. It never changes.
type Tree struct {
	files  []File
	begins []int64 // where the header of each begins; and in the end, where the last blocks do
}

// Lay returns the tree of files, in their order, and sets their offsets. Errors match
// [ErrTree].
func Lay(files []File) (*Tree, error) {
	return build(files, func(f *File, offset int64) error {
		f.Offset = offset
		return nil
	})
}

// New returns the tree of files, whose order and offsets must be right. Errors match
// [ErrTree].
func New(files []File) (*Tree, error) {
	return build(files, func(f *File, offset int64) error {
		if f.Offset != offset {
			return fmt.Errorf("offset %d instead of %d", f.Offset, offset)
		}
		return nil
	})
}

// build checks files, of each of which place sets or checks the offset.
func build(files []File, place func(f *File, offset int64) error) (*Tree, error) {
	if len(files) > shard.MaxFiles {
		return nil, fmt.Errorf("%w: %d files, at most %d are allowed", ErrTree, len(files), shard.MaxFiles)
	}
	t := &Tree{files: files, begins: make([]int64, 1, len(files)+1)}
	for i := range files {
		f := &files[i]
		err := t.follows(i)
		content := t.begins[i] + headerSize(*f)
		if err == nil && !f.Directory {
			err = place(f, content)
		}
		end := content + padded(f.Size)
		if err == nil && end > maxSize {
			err = fmt.Errorf("ends beyond %d bytes", int64(maxSize))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrTree, f.Path, err)
		}
		t.begins = append(t.begins, end)
	}
	return t, nil
}

// maxSize bounds a stream, in bytes, so that the sum of two sizes does not overflow.
const maxSize = 1 << 61

// follows checks file i by itself, and against those before it.
func (t *Tree) follows(i int) error {
	f := t.files[i]
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	if i > 0 && f.Path <= t.files[i-1].Path {
		return fmt.Errorf("stands behind %q, and paths ascend", t.files[i-1].Path)
	}
	dir := path.Dir(f.Path)
	if i > 0 && path.Dir(t.files[i-1].Path) == dir {
		dir = "." // which was checked with that file
	}
	for parent := dir; parent != "."; parent = path.Dir(parent) {
		if _, listed := find(t.files[:i], parent); listed {
			return fmt.Errorf("lies in %q, which is a file or an empty directory", parent)
		}
	}
	switch {
	case f.Size < 0 || f.Size > maxSize:
		return fmt.Errorf("size %d is out of range", f.Size)
	case f.Directory && (f.Size != 0 || f.Offset != 0 || f.Executable || f.Digest != shard.Digest{}):
		return errors.New("a directory has no other properties")
	}
	return nil
}

// find returns the index of the file with the path name, and whether there is one.
func find(files []File, name string) (int, bool) {
	return slices.BinarySearchFunc(files, name, func(f File, name string) int { return cmp.Compare(f.Path, name) })
}

// CheckPath returns nil if name may be the path of a file in a tree: relative and clean,
// UTF-8, at most 4,096 bytes and 255 in each element, without control characters and
// backslashes.
func CheckPath(name string) error {
	switch {
	case name == "":
		return errors.New("a path is empty")
	case len(name) > maxPath:
		return fmt.Errorf("the path is longer than %d bytes", maxPath)
	case !utf8.ValidString(name):
		return errors.New("the path is not UTF-8")
	case strings.ContainsRune(name, '\\'):
		return errors.New("the path has a backslash")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the path has a control character")
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "":
			return errors.New("the path begins or ends with a slash, or has two in a row")
		case element == "." || element == "..":
			return fmt.Errorf("the path has the element %q", element)
		case len(element) > maxElement:
			return fmt.Errorf("an element of the path is longer than %d bytes", maxElement)
		}
	}
	return nil
}

// Files returns the files in the order of the stream. The caller must not change them.
func (t *Tree) Files() []File { return t.files }

// SharePaths has the paths that both t and with have in memory once. Meanwhile no other goroutine
// may use t. A nil with has none.
func (t *Tree) SharePaths(with *Tree) {
	if with == nil {
		return
	}
	others := with.files
	for i := range t.files {
		f := &t.files[i]
		for len(others) > 0 && others[0].Path < f.Path {
			others = others[1:]
		}
		if len(others) > 0 && others[0].Path == f.Path {
			f.Path = others[0].Path
		}
	}
}

// Find returns the file with the path name, if there is one.
func (t *Tree) Find(name string) (f File, ok bool) {
	i, ok := find(t.files, name)
	if ok {
		f = t.files[i]
	}
	return f, ok
}

// Size is the stream's, in bytes.
func (t *Tree) Size() int64 { return t.begins[len(t.files)] + closing }

// Check returns nil if of the size bytes of a stream from offset on, which are those of r, all
// that are in no file follow from the list. Otherwise the error matches [ErrTree] and names a
// path, or is that of r.
func (t *Tree) Check(r io.ReaderAt, offset, size int64) error {
	for p := range t.Pieces(offset, size) {
		if p.File >= 0 || p.Size == 0 {
			continue
		}
		got, made := make([]byte, p.Size), make([]byte, p.Size)
		if _, err := r.ReadAt(got, p.Offset-offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if t.make(p, made); !bytes.Equal(got, made) {
			return fmt.Errorf("%w: the version has something else %s", ErrTree, t.where(p.Offset))
		}
	}
	return nil
}

// where says in words where in the stream offset is.
func (t *Tree) where(offset int64) string {
	i := sort.Search(len(t.files), func(i int) bool { return t.begins[i+1] > offset })
	if i == len(t.files) {
		return "behind its files"
	}
	return fmt.Sprintf("in the place of %q", t.files[i].Path)
}

// A Piece is a part of the stream: of one file's content, or of the bytes that follow from
// the list.
type Piece struct {
	// Offset is where the piece begins in the stream, and Size what it has, in bytes.
	Offset, Size int64

	// File is the index of the file whose content the piece is, or -1 where the bytes follow
	// from the list.
	File int

	// At is where the piece begins in the content.
	At int64

	// The bytes of a piece that follows from the list are zeros, or those of the header of
	// file number header, from 1, from the offset At on.
	header int
}

// Pieces yields the parts of the size bytes of the stream from offset on, in their order.
// They end with the stream.
func (t *Tree) Pieces(offset, size int64) iter.Seq[Piece] {
	end := min(offset+size, t.Size())
	return func(yield func(Piece) bool) {
		from := sort.Search(len(t.files), func(i int) bool { return t.begins[i+1] > offset })
		for i := from; i <= len(t.files) && offset < end; i++ {
			for p := range t.entry(i) {
				if skip := offset - p.Offset; skip < p.Size && offset < end {
					p = p.cut(skip, end-offset)
					offset += p.Size
					if !yield(p) {
						return
					}
				}
			}
		}
	}
}

// entry yields the parts of file i, or those of the end of the stream.
func (t *Tree) entry(i int) iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		if i == len(t.files) {
			yield(Piece{Offset: t.begins[i], Size: closing, File: -1})
			return
		}
		f := &t.files[i]
		content := t.begins[i+1] - padded(f.Size)
		_ = yield(Piece{Offset: t.begins[i], Size: content - t.begins[i], File: -1, header: i + 1}) &&
			yield(Piece{Offset: content, Size: f.Size, File: i}) &&
			yield(Piece{Offset: content + f.Size, Size: padded(f.Size) - f.Size, File: -1})
	}
}

// cut returns at most size bytes of p, without the first skip ones.
func (p Piece) cut(skip, size int64) Piece {
	p.Offset += skip
	p.Size = min(p.Size-skip, size)
	p.At += skip
	return p
}

// Made returns the bytes of p, which follow from the list.
func (t *Tree) Made(p Piece) []byte {
	text := make([]byte, p.Size)
	t.make(p, text)
	return text
}

// make fills to with the bytes of p, which follow from the list.
func (t *Tree) make(p Piece, to []byte) {
	if p.header == 0 {
		clear(to)
		return
	}
	var b [2 * block]byte // has room for most headers
	copy(to, appendHeader(b[:0], t.files[p.header-1])[p.At:])
}
