// Package credential answers which certificate, key or token a file has now, and makes the
// certificates by which nodes of a swarm know one another. It refuses to know sockets and
// HTTP.
//
// A caller may lean on this: a file of at most 1 MiB is read; what was read once stays until
// the files have something else that can be used; and no error has a part of a key or token.
package credential

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// maxFile bounds a file in bytes.
	maxFile = 1 << 20

	// lookEvery is the least time between two looks at files.
	lookEvery = time.Second
)

// A Source is a value that some files have, read again when they change. Its methods may be
// called from any goroutine.
type Source[T any] struct {
	files   []string
	parse   func(texts [][]byte) (T, error)
	changed func(now T, err error)

	mu     sync.Mutex // guards what follows
	value  T
	texts  [][]byte // that the value is of
	bad    [][]byte // that have come since, and are of no use, or nil
	failed bool     // changed was told of that
	looked time.Time
}

// NewSource returns the value that parse makes of the texts of files. The source calls
// changed, from any goroutine, with each later value, and with an error when new texts are of
// no use, once for each: two looks have to find them, as files are rarely written at the same
// moment. Changed may be nil.
func NewSource[T any](
	files []string, parse func(texts [][]byte) (T, error), changed func(now T, err error),
) (*Source[T], error) {
	s := &Source[T]{files: files, parse: parse, changed: changed, looked: time.Now()}
	var err error
	if s.texts, err = s.read(); err != nil {
		return nil, err
	}
	if s.value, err = parse(s.texts); err != nil {
		return nil, err
	}
	return s, nil
}

// Value returns the value. It looks at the files if that was not done for a second.
func (s *Source[T]) Value() T {
	s.mu.Lock()
	if time.Since(s.looked) < lookEvery {
		defer s.mu.Unlock()
		return s.value
	}
	s.mu.Unlock()
	return s.look(false)
}

// Reload looks at the files now, and takes what they have for all that will come.
func (s *Source[T]) Reload() { s.look(true) }

// Follow looks at the files until ctx ends, so that a change is told although no caller asks.
func (s *Source[T]) Follow(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.Value()
		}
	}
}

// look looks at the files, and returns the value. Final says that no other look is to be
// waited for before an error counts.
func (s *Source[T]) look(final bool) T {
	s.mu.Lock()
	s.looked = time.Now()
	texts, err := s.read()
	if err == nil && same(texts, s.texts) {
		s.bad, s.failed = nil, false
		defer s.mu.Unlock()
		return s.value
	}
	var now T
	if err == nil {
		now, err = s.parse(texts)
	}
	tell := true
	if err == nil {
		s.value, s.texts, s.bad, s.failed = now, texts, nil, false
	} else {
		again := s.bad != nil && same(texts, s.bad)
		tell = (again || final) && (!again || !s.failed)
		s.bad, s.failed = texts, again && s.failed || tell
		now = s.value
	}
	s.mu.Unlock()
	if tell && s.changed != nil {
		s.changed(now, err)
	}
	return now
}

// read returns the texts, of which those that cannot be read are empty, and why the first of
// these cannot.
func (s *Source[T]) read() (texts [][]byte, first error) {
	texts = make([][]byte, len(s.files))
	for i, name := range s.files {
		var err error
		texts[i], err = readFile(name)
		first = cmp.Or(first, err)
	}
	return texts, first
}

func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // waits for no writer of a pipe
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is not a regular file")}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it has more than %d bytes", maxFile)}
	}
	return text, err
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
