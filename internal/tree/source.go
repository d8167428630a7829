package tree

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// ErrUnpublishable means that a directory has what a tree cannot have.
var ErrUnpublishable = errors.New("the directory cannot be published")

// Options say what of a directory is a tree. The zero value takes all of it.
type Options struct {
	// Include are patterns of the files to take. Nil takes all, and empty directories.
	Include []string

	// Exclude are patterns of files and directories to leave out.
	Exclude []string

	// FollowLinks takes the regular files that symbolic links lead to. Without it a link is
	// an error.
	FollowLinks bool

	// LinksBelow, unless empty, is a directory in which all files have to be that links lead
	// to, also while another process exchanges links.
	LinksBelow string
}

// A Source is a directory that is read once, as a stream. One goroutine uses it.
type Source struct {
	dir   string
	opts  Options
	root  *os.Root
	tree  *Tree      // without digests until all has been read
	looks []likeness // of each file, when the directory was looked at
	added *added     // or nil

	entry int     // which is being read
	parts []Piece // of the entry that are left
	file  *os.File
	sum   hash.Hash // of the file; nil if Apart computes the digests
}

// likeness tells a file from one that was written to, or took its name. Of a directory it has the mode alone.
type likeness struct {
	inode   uint64
	size    int64
	changed int64 // in nanoseconds since 1970
	mode    fs.FileMode
	link    bool // it was found by a symbolic link
}

func likenessOf(info fs.FileInfo, link bool) likeness {
	return likeness{disk.Inode(info), info.Size(), info.ModTime().UnixNano(), info.Mode(), link}
}

// file returns the file name that looks so.
func (l likeness) file(name string) File {
	if l.mode.IsDir() {
		return File{Path: name, Directory: true}
	}
	return File{Path: name, Size: l.size, Executable: l.mode&0o100 != 0}
}

// Open looks at the directory dir, and returns its stream. Close gives it back. Errors name
// the path that a tree cannot have and match [ErrUnpublishable], or are the file system's.
func Open(dir string, opts Options) (*Source, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return OpenIn(root, dir, opts)
}

// OpenIn is [Open] of the directory root, which the path dir leads to. The Source closes it, and
// so does an error.
func OpenIn(root *os.Root, dir string, opts Options) (*Source, error) {
	s := &Source{dir: dir, opts: opts, root: root, sum: sha256.New()}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

// begin looks at the directory.
func (s *Source) begin() error {
	var found names
	var looks []likeness
	err := s.look(func(name string, looksLike likeness) error {
		found.add(name)
		if looks = append(looks, looksLike); len(looks) > shard.MaxFiles {
			return fmt.Errorf("%w: %s has more than %d files", ErrUnpublishable, s.dir, shard.MaxFiles)
		}
		return nil
	})
	if err != nil {
		return err
	}
	order := make([]int32, len(looks))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(found.at(int(a)), found.at(int(b))) })
	s.looks = make([]likeness, len(looks))
	for i, n := range order {
		s.looks[i] = looks[n]
	}
	s.tree, err = lay(len(order), func(yield func(File) bool) {
		for i, n := range order {
			if !yield(s.looks[i].file(found.at(int(n)))) {
				return
			}
		}
	})
	return err
}

// Len is the number of files.
func (s *Source) Len() int { return len(s.looks) }

// Paths yields the paths of the files.
func (s *Source) Paths() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s.looks {
			if !yield(s.tree.paths.at(i)) {
				return
			}
		}
	}
}

// Size is the stream's, in bytes.
func (s *Source) Size() int64 { return s.tree.Size() }

// Looks is a digest of the files as they looked when the directory was opened: of their paths,
// sizes, times and inodes, not of their content.
func (s *Source) Looks() (digest shard.Digest) {
	sum := sha256.New()
	for i := range s.looks {
		f := s.tree.File(i)
		fmt.Fprintf(sum, "%q %t %t", f.Path, f.Directory, f.Executable)
		if !f.Directory {
			fmt.Fprintf(sum, " %d %d %d", s.looks[i].size, s.looks[i].changed, s.looks[i].inode)
		}
		fmt.Fprintln(sum)
	}
	sum.Sum(digest[:0])
	return digest
}

// Newest is the latest time of a file when the directory was opened.
func (s *Source) Newest() (newest time.Time) {
	for _, l := range s.looks {
		if changed := time.Unix(0, l.changed); !l.mode.IsDir() && changed.After(newest) {
			newest = changed
		}
	}
	return newest
}

// BeingWritten returns the path of a file that a process has open for writing, as far as
// [disk.BeingWritten] knows, or nothing. Errors are the file system's.
func (s *Source) BeingWritten() (string, error) {
	for i, l := range s.looks {
		if l.mode.IsDir() {
			continue
		}
		name := s.tree.paths.at(i)
		file, err := s.openPath(name, l.link)
		if err != nil {
			return "", err
		}
		written := disk.BeingWritten(file)
		if err := file.Close(); err != nil {
			return "", err
		}
		if written {
			return name, nil
		}
	}
	return "", nil
}

// Close ends the reading.
func (s *Source) Close() error {
	var err error
	if s.file != nil {
		err = s.file.Close()
	}
	return errors.Join(err, s.root.Close())
}

// Read reads the next bytes of the stream. Errors match [shard.ErrChanged] if a file is not what
// it was when the directory was opened, or are the file system's.
func (s *Source) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 && err == nil {
		if len(s.parts) == 0 {
			if s.entry > len(s.looks) {
				return 0, io.EOF
			}
			s.parts = slices.Collect(s.tree.entry(s.entry))
			s.entry++
		}
		n, err = s.next(p)
	}
	return n, err
}

// next reads the next bytes of the entry, which may have none.
func (s *Source) next(p []byte) (n int, err error) {
	part := &s.parts[0]
	n = int(min(int64(len(p)), part.Size))
	if part.File < 0 {
		s.tree.make(*part, p[:n])
	} else if n, err = s.content(p[:n], *part); err != nil {
		return n, fmt.Errorf("%s: %w", filepath.Join(s.dir, s.tree.paths.at(part.File)), err)
	}
	if *part = part.cut(int64(n), part.Size); part.Size == 0 {
		s.parts = s.parts[1:]
	}
	return n, nil
}

// content reads the next bytes of part, of a file's content, of which the first opens and
// the last closes the file.
func (s *Source) content(p []byte, part Piece) (int, error) {
	if s.added != nil && s.added.at == part.File {
		return s.addedContent(p, part), nil
	}
	directory := s.looks[part.File].mode.IsDir()
	if s.file == nil && !directory {
		if err := s.open(part.File); err != nil {
			return 0, err
		}
	}
	n := 0
	if len(p) > 0 {
		var err error
		if n, err = s.file.Read(p); errors.Is(err, io.EOF) {
			return n, shard.ErrChanged
		} else if err != nil {
			return n, err
		}
	}
	if s.sum != nil {
		s.sum.Write(p[:n])
	}
	if int64(n) < part.Size || directory {
		return n, nil
	}
	if s.sum != nil {
		s.sum.Sum(s.tree.digests[part.File][:0])
		s.sum.Reset()
	}
	info, err := s.file.Stat()
	err = errors.Join(err, s.file.Close())
	s.file = nil
	if err == nil && likenessOf(info, s.looks[part.File].link) != s.looks[part.File] {
		err = shard.ErrChanged
	}
	return n, err
}

// open opens file i, which must be the one that was found.
func (s *Source) open(i int) error {
	file, err := s.openPath(s.tree.paths.at(i), s.looks[i].link)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && likenessOf(info, s.looks[i].link) != s.looks[i] {
		err = shard.ErrChanged
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.file = file
	return nil
}

// openPath opens the file that has the name now, or that the link of that name leads to. It
// never waits, as opening a pipe does.
func (s *Source) openPath(name string, link bool) (*os.File, error) {
	name = filepath.FromSlash(name)
	if link {
		return os.OpenFile(filepath.Join(s.dir, name), os.O_RDONLY|nonblock, 0)
	}
	return s.root.OpenFile(name, os.O_RDONLY|nonblock, 0)
}

// ReadFile returns the content of the file name, which is at most so many bytes long. Errors match
// [fs.ErrNotExist] if the stream has no such file, and [shard.ErrChanged] if it is not what it was when the
// directory was opened.
func (s *Source) ReadFile(name string, most int64) ([]byte, error) {
	i, ok := s.tree.Find(name)
	if !ok || s.looks[i].mode.IsDir() {
		return nil, fmt.Errorf("%s: %w", filepath.Join(s.dir, name), fs.ErrNotExist)
	}
	if size := s.looks[i].size; size > most {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", filepath.Join(s.dir, name), size, most)
	}
	file, err := s.openPath(name, s.looks[i].link)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && likenessOf(info, s.looks[i].link) != s.looks[i] {
		err = fmt.Errorf("%s: %w", filepath.Join(s.dir, name), shard.ErrChanged)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, most))
}

// Apart returns a function that computes the digests of the files in place of Read, from all bytes
// that Read returns, in order: another goroutine may call it beside Read. Apart is called before the
// first Read, and Tree when the function has had all.
func (s *Source) Apart() func(p []byte) {
	sum, offset := s.sum, int64(0)
	s.sum = nil
	for i := range s.tree.digests {
		if f := s.tree.File(i); !f.Directory && f.Size == 0 {
			s.tree.digests[i] = shard.EmptyDigest()
		}
	}
	return func(p []byte) {
		for part := range s.tree.Pieces(offset, int64(len(p))) {
			if part.File >= 0 {
				from := part.Offset - offset
				_, _ = sum.Write(p[from : from+part.Size]) // a hash takes all
				if part.At+part.Size == s.tree.size(part.File) {
					sum.Sum(s.tree.digests[part.File][:0])
					sum.Reset()
				}
			}
		}
		offset += int64(len(p))
	}
}

// Tree returns the tree of all that was read, with the digests of its files. It looks at the
// directory once more. Errors match [shard.ErrChanged] if anything in it is new, gone, or not what
// it was, or if the stream was not read to its end.
func (s *Source) Tree() (*Tree, error) {
	if s.entry <= len(s.looks) || len(s.parts) > 0 {
		return nil, errors.New("the stream was not read to its end")
	}
	left := len(s.looks)
	if s.added != nil {
		left--
	}
	err := s.look(func(name string, now likeness) error {
		if i, ok := s.tree.Find(name); !ok || now != s.looks[i] {
			return errors.New(filepath.Join(s.dir, name))
		}
		left--
		return nil
	})
	if err == nil && left > 0 {
		err = fmt.Errorf("files of it that are gone: %d", left)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", shard.ErrChanged, err)
	}
	return s.tree, nil
}

// finder is called with the path of a file, and what it looks like.
type finder func(name string, looks likeness) error

// look calls visit for the files of the directory, and its empty directories, in any order. An
// error of visit ends it.
func (s *Source) look(visit finder) error {
	chosen, err := newChoice(s.opts)
	if err != nil {
		return err
	}
	return s.walk(".", chosen, visit)
}

// walk is look for the directory name, and those in it.
func (s *Source) walk(name string, chosen choice, visit finder) error {
	within, empty := []string(nil), true
	for entry, err := range disk.Entries(s.root, name) {
		if err != nil {
			return err
		}
		empty = false
		below := path.Join(name, entry.Name())
		if chosen.leavesOut(below, entry.IsDir()) {
			continue
		}
		if entry.IsDir() {
			within = append(within, below)
		} else if err := s.visit(below, entry, chosen, visit); err != nil {
			return err
		}
	}
	if empty && name != "." && chosen.emptyDirectories() {
		return visit(name, likeness{mode: fs.ModeDir})
	}
	for _, below := range within {
		if err := s.walk(below, chosen, visit); err != nil {
			return err
		}
	}
	return nil
}

// visit calls visit for the entry with the path name, which is no directory.
func (s *Source) visit(name string, entry fs.DirEntry, chosen choice, visit finder) error {
	if !chosen.takes(name) {
		return nil
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	link := info.Mode()&fs.ModeSymlink != 0
	if link {
		info, err = s.follow(name)
	}
	if err == nil {
		err = cmp.Or(CheckPath(name), carried(info.Mode()))
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnpublishable, filepath.Join(s.dir, name), err)
	}
	return visit(name, likenessOf(info, link))
}

// carried returns nil if a tree can have files of that mode.
func carried(mode fs.FileMode) error {
	switch {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return errors.New("it is a link to a directory, which a tree cannot have; exclude it, or copy the directory")
	default:
		return errors.New("it is neither a file nor a directory")
	}
}

// follow describes the file that the link name leads to.
func (s *Source) follow(name string) (fs.FileInfo, error) {
	if !s.opts.FollowLinks {
		return nil, errors.New("it is a symbolic link; --follow-links publishes the file that it leads to")
	}
	full, err := filepath.EvalSymlinks(filepath.Join(s.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	if s.opts.LinksBelow != "" {
		below, err := filepath.EvalSymlinks(s.opts.LinksBelow)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(below, full)
		if err != nil || !filepath.IsLocal(rel) {
			return nil, fmt.Errorf("it leads to %s, which is not below %s", full, s.opts.LinksBelow)
		}
		root, err := os.OpenRoot(below)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return root.Stat(rel) // a link that has taken a name on the way meanwhile leads nowhere
	}
	return os.Stat(full)
}

// IsArriving reports whether a file or directory of that name is being written by a download,
// ours or that of the Hugging Face hub.
func IsArriving(base string) bool {
	return strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".shardcast-part") ||
		strings.HasSuffix(base, ".incomplete")
}
