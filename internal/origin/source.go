package origin

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// source is a file, a directory or an input to publish. One goroutine reads it.
type source struct {
	io.Reader

	path    string // as it was given, or stdin
	name    string
	labels  map[string]string
	lineage Lineage
	bases   int   // from which to make deltas, see [Options]
	size    int64 // in bytes, or shard.UnknownSize

	// Of these one is set, of an input none.
	file *os.File
	tree *tree.Source

	info   os.FileInfo // of the file, when it was opened
	signed *tree.Tree  // of the directory as it was signed, or nil

	report func(Progress) // of its broadcast; nil logs
}

// open opens the file or directory path, or the input if path is "-".
func open(path string, opts Options) (*source, error) {
	s := &source{path: path, name: opts.Name, labels: opts.Labels, lineage: opts.Lineage, bases: opts.DeltaBases}
	if err := shard.CheckLabels(s.labels); err != nil {
		return nil, err
	}
	if path == "-" && opts.Input != nil {
		s.path, s.name = "stdin", cmp.Or(s.name, "stdin")
		s.Reader, s.size = opts.Input, cmp.Or(opts.InputSize, shard.UnknownSize)
		return s, nil
	}
	if s.name == "" {
		full, err := filepath.Abs(path) // the name of "." is that of the directory
		if err != nil {
			return nil, err
		}
		s.name = nameOf(full)
	}
	// To open a pipe would take for ever.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		t, err := tree.Open(path, opts.Tree)
		if err != nil {
			return nil, err
		}
		return s, s.read(t)
	case !info.Mode().IsRegular():
		return nil, errIrregular
	case opts.Tree.Include != nil || opts.Tree.Exclude != nil:
		return nil, errors.New("it is a file; patterns choose files of a directory")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return s, s.openFile(f)
}

// errIrregular means that a path leads to what no version can have.
var errIrregular = errors.New("it is neither a regular file nor a directory")

// Opened is a regular file or a directory that is open. One of File and Tree is set.
type Opened struct {
	Path string // of which the last name is that of the version, unless options have one

	File *os.File
	Info os.FileInfo // of the File, which must not have changed since

	Tree *tree.Source
}

// openedSource returns what is open as a source, and closes it if it cannot be one.
func openedSource(of Opened, opts Options) (*source, error) {
	s := &source{
		path: of.Path, name: cmp.Or(opts.Name, nameOf(of.Path)), labels: opts.Labels, lineage: opts.Lineage,
		bases: opts.DeltaBases,
	}
	if of.Tree != nil {
		return s, s.read(of.Tree)
	}
	s.readFile(of.File, of.Info)
	return s, nil
}

// openFile has s read the open file f, which it closes if it is not a regular one.
func (s *source) openFile(f *os.File) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errIrregular
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.readFile(f, info)
	return nil
}

// readFile has s read the regular file f.
func (s *source) readFile(f *os.File, info os.FileInfo) {
	s.Reader, s.file, s.info, s.size = f, f, info, info.Size()
}

// nameOf returns the name of a version that has the path. A file's name may be any bytes; in
// a manifest it is text.
func nameOf(path string) string { return strings.ToValidUTF8(filepath.Base(path), "_") }

// treeSuffix ends the name of a version that is a tree, for receivers to whom it is a tar.
const treeSuffix = ".tar"

// read has s read the directory t, which it closes if there is nothing in it.
func (s *source) read(t *tree.Source) error {
	if t.Len() == 0 {
		err := fmt.Errorf("%w: there is no file in it, or patterns leave all out", tree.ErrUnpublishable)
		return errors.Join(err, t.Close())
	}
	s.name += treeSuffix
	s.Reader, s.tree, s.size = t, t, t.Size()
	return nil
}

// keepsOut returns an error if the directory to publish has files of the data directory data,
// which changes during every broadcast.
func (s *source) keepsOut(data string) error {
	if s.tree == nil {
		return nil
	}
	real, err := filepath.EvalSymlinks(data)
	if err != nil {
		return err
	}
	from, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	if from, err = filepath.Abs(from); err != nil {
		return err
	}
	below, err := filepath.Rel(from, real)
	if err != nil || !filepath.IsLocal(below) {
		return nil //nolint:nilerr // that is, data is not below it
	}
	below = filepath.ToSlash(below)
	for name := range s.tree.Paths() {
		if below == "." || name == below || strings.HasPrefix(name, below+"/") {
			return fmt.Errorf("%w: the data directory %s lies in it; exclude it, or keep the data elsewhere",
				tree.ErrUnpublishable, data)
		}
	}
	return nil
}

// end returns an error unless the file or directory is what it was when it was opened, and
// the tree of a directory.
func (s *source) end() (*tree.Tree, error) {
	if s.tree != nil {
		t, err := s.tree.Tree()
		if err == nil {
			err = s.asSigned(t)
		}
		return t, err
	}
	if s.isInput() {
		return nil, nil //nolint:nilnil // an input is no tree
	}
	after, err := s.file.Stat()
	if err == nil && (!after.ModTime().Equal(s.info.ModTime()) || after.Size() != s.info.Size()) {
		err = shard.ErrChanged
	}
	return nil, err
}

// isInput reports whether s is neither a file nor a directory.
func (s *source) isInput() bool { return s.file == nil && s.tree == nil }

// forget gives back the memory of a directory that has been read: lists of 100,000 files need much.
func (s *source) forget() {
	if s.tree != nil {
		_ = s.tree.Close()
		s.Reader, s.tree, s.signed = nil, nil, nil
	}
}

// close ends the reading.
func (s *source) close() {
	switch {
	case s.file != nil:
		_ = s.file.Close()
	case s.tree != nil:
		_ = s.tree.Close()
	}
}
