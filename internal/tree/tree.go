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

// A Tree is a checked list of files, and the stream that follows from it. It never changes. One of 100,000
// files takes some 6 MB, in a few allocations.
type Tree struct {
	paths   names
	begins  []int64 // where the header of each begins; and in the end, where the last blocks do
	shapes  []shape
	digests []shard.Digest
}

// shape is what a file of a tree is, but for what follows from where its header and the next one begin.
type shape uint16

// The bits of a shape: the bytes that pad the content, two marks, and the blocks of the header.
const (
	paddingBits  = block - 1
	isDirectory  = block
	isExecutable = 2 * block
	headerUnit   = 4 * block // the longest, of a path of 4,096 bytes, has 11 of 31
)

// newTree returns a tree without files, with room for count.
func newTree(count int) *Tree {
	t := &Tree{
		begins: make([]int64, 1, count+1), shapes: make([]shape, 0, count), digests: make([]shard.Digest, 0, count),
	}
	t.paths.ends = make([]uint32, 0, count)
	return t
}

// Lay returns the tree of files, in their order, at the offsets that follow. Errors match [ErrTree].
func Lay(files []File) (*Tree, error) { return lay(len(files), slices.Values(files)) }

// lay is [Lay] of count files.
func lay(count int, files iter.Seq[File]) (*Tree, error) {
	if count > shard.MaxFiles {
		return nil, fmt.Errorf("%w: %d files, at most %d are allowed", ErrTree, count, shard.MaxFiles)
	}
	t := newTree(count)
	for f := range files {
		if !f.Directory {
			f.Offset = t.content(f)
		}
		if err := t.add(f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// content returns where the content of f begins, if f is the next file.
func (t *Tree) content(f File) int64 { return t.begins[t.Len()] + headerSize(f) }

// add adds f, whose offset must be right. Errors match [ErrTree].
func (t *Tree) add(f File) error {
	err := t.follows(f)
	content := t.content(f)
	if err == nil && !f.Directory && f.Offset != content {
		err = fmt.Errorf("offset %d instead of %d", f.Offset, content)
	}
	end := content + padded(f.Size)
	if err == nil && end > maxSize {
		err = fmt.Errorf("ends beyond %d bytes", int64(maxSize))
	}
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrTree, f.Path, err)
	}
	is := shape(padded(f.Size)-f.Size) | shape(headerSize(f)/block)*headerUnit
	if f.Directory {
		is |= isDirectory
	}
	if f.Executable {
		is |= isExecutable
	}
	t.paths.add(f.Path)
	t.begins, t.shapes, t.digests = append(t.begins, end), append(t.shapes, is), append(t.digests, f.Digest)
	return nil
}

// maxSize bounds a stream, in bytes, so that the sum of two sizes does not overflow.
const maxSize = 1 << 61

// follows checks f by itself, and against the files before it.
func (t *Tree) follows(f File) error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	dir, before := path.Dir(f.Path), ""
	if n := t.Len(); n > 0 {
		before = t.paths.at(n - 1)
	}
	switch {
	case f.Path <= before:
		return fmt.Errorf("stands behind %q, and paths ascend", before)
	case before != "" && path.Dir(before) == dir:
		dir = "." // which was checked with that file
	}
	for parent := dir; parent != "."; parent = path.Dir(parent) {
		if _, listed := t.paths.find(parent); listed {
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

// Len is the number of files.
func (t *Tree) Len() int { return len(t.shapes) }

// File returns file i, in the order of the stream.
func (t *Tree) File(i int) File {
	is := t.shapes[i]
	f := File{
		Path: t.paths.at(i), Directory: is&isDirectory != 0, Executable: is&isExecutable != 0,
		Size: t.size(i), Digest: t.digests[i],
	}
	if !f.Directory {
		f.Offset = t.begins[i] + is.header()
	}
	return f
}

// header is the size of the header, in bytes.
func (s shape) header() int64 { return int64(s/headerUnit) * block }

// size is that of the content of file i, in bytes.
func (t *Tree) size(i int) int64 {
	is := t.shapes[i]
	return t.begins[i+1] - int64(is&paddingBits) - is.header() - t.begins[i]
}

// Files yields the files in the order of the stream.
func (t *Tree) Files() iter.Seq[File] {
	return func(yield func(File) bool) {
		for i := range t.Len() {
			if !yield(t.File(i)) {
				return
			}
		}
	}
}

// Find returns the index of the file with the path name, if there is one.
func (t *Tree) Find(name string) (i int, ok bool) { return t.paths.find(name) }

// Size is the stream's, in bytes.
func (t *Tree) Size() int64 { return t.begins[t.Len()] + closing }

// Check returns nil if of the size bytes of a stream from offset on, which are those of r, all
// that are in no file follow from the list. Otherwise the error matches [ErrTree] and names a
// path, or is that of r.
func (t *Tree) Check(r io.ReaderAt, offset, size int64) error {
	var got, made []byte
	for p := range t.Pieces(offset, size) {
		if p.File >= 0 || p.Size == 0 {
			continue
		}
		got, made = slices.Grow(got[:0], int(p.Size))[:p.Size], slices.Grow(made[:0], int(p.Size))[:p.Size]
		if _, err := r.ReadAt(got, p.Offset-offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if t.make(p, made); !bytes.Equal(got, made) {
			return fmt.Errorf("%w: the version has something else %s", ErrTree, t.where(p.Offset))
		}
	}
	return nil
}

// at returns the index of the file that has the offset in the stream, or their number behind them.
func (t *Tree) at(offset int64) int {
	return sort.Search(t.Len(), func(i int) bool { return t.begins[i+1] > offset })
}

// where says in words where in the stream offset is.
func (t *Tree) where(offset int64) string {
	i := t.at(offset)
	if i == t.Len() {
		return "behind its files"
	}
	return fmt.Sprintf("in the place of %q", t.paths.at(i))
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
		for i := t.at(offset); i <= t.Len() && offset < end; i++ {
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
		if i == t.Len() {
			yield(Piece{Offset: t.begins[i], Size: closing, File: -1})
			return
		}
		header, size, padding := t.shapes[i].header(), t.size(i), int64(t.shapes[i]&paddingBits)
		content := t.begins[i] + header
		_ = yield(Piece{Offset: t.begins[i], Size: header, File: -1, header: i + 1}) &&
			yield(Piece{Offset: content, Size: size, File: i}) &&
			yield(Piece{Offset: content + size, Size: padding, File: -1})
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
	copy(to, appendHeader(b[:0], t.File(p.header-1))[p.At:])
}
