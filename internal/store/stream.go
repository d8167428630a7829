package store

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// mostOpen is how many shards of a stream are open: of a few places that are read in turns.
const mostOpen = 16

// A Stream reads the bytes of a version from its shards, at any place and from several goroutines at
// a time. It verifies none of them.
type Stream struct {
	manifest shard.Manifest
	open     func(number int) (f *os.File, done func(), err error)

	mu     sync.Mutex // guards what follows, and is held while a shard is opened or closed
	shards map[int]*openShard
	clock  int // counts uses
}

// openShard is a shard of a stream.
type openShard struct {
	file  *os.File
	done  func()
	users int
	last  int // use
}

// Stream returns the stream of v, whose manifest is m, which the caller closes.
func (s *Store) Stream(v shard.Version, m shard.Manifest) *Stream {
	return newStream(m, func(number int) (*os.File, func(), error) { return s.Shard(v, number) })
}

// Stream returns the stream of the draft, which has all shards of m. The caller closes it.
func (d *Draft) Stream(m shard.Manifest) *Stream {
	return newStream(m, func(number int) (*os.File, func(), error) {
		f, err := d.Read(number)
		return f, func() {}, err
	})
}

func newStream(m shard.Manifest, open func(int) (*os.File, func(), error)) *Stream {
	return &Stream{manifest: m, open: open, shards: make(map[int]*openShard)}
}

// Size returns the number of bytes.
func (s *Stream) Size() int64 { return s.manifest.Size }

// ReadAt reads from the shards as [io.ReaderAt] says. A shard that is shorter than the manifest says is an
// error that matches [io.ErrUnexpectedEOF].
func (s *Stream) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("read at %d of a version", offset)
	}
	for n < len(p) && offset < s.manifest.Size {
		of := s.manifest.Shard(int(offset/s.manifest.ShardSize) + 1)
		part := p[n:min(int64(len(p)), int64(n)+of.Offset+of.Size-offset)]
		if err := s.readShard(part, of.Number, offset-of.Offset); err != nil {
			return n, fmt.Errorf("%s: %w", shard.FileName(of.Number), err)
		}
		n += len(part)
		offset += int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readShard reads all of p from a shard.
func (s *Stream) readShard(p []byte, number int, offset int64) error {
	of, err := s.use(number)
	if err != nil {
		return err
	}
	defer s.leave(of)
	read, err := of.file.ReadAt(p, offset)
	if read == len(p) {
		return nil
	}
	if err == io.EOF { //nolint:errorlint // as io.ReaderAt says
		return io.ErrUnexpectedEOF
	}
	return err
}

// use returns the shard of that number, which is open until [Stream.leave].
func (s *Stream) use(number int) (*openShard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.shards[number]
	if of == nil {
		s.closeOldest()
		f, done, err := s.open(number)
		if err != nil {
			return nil, err
		}
		of = &openShard{file: f, done: done}
		s.shards[number] = of
	}
	s.clock++
	of.users, of.last = of.users+1, s.clock
	return of, nil
}

func (s *Stream) leave(of *openShard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of.users--
}

// closeOldest closes the shard that was not used for longest, if there are too many.
func (s *Stream) closeOldest() {
	if len(s.shards) < mostOpen {
		return
	}
	oldest := 0
	for number, of := range s.shards {
		if of.users == 0 && (oldest == 0 || of.last < s.shards[oldest].last) {
			oldest = number
		}
	}
	if oldest != 0 {
		s.shards[oldest].close()
		delete(s.shards, oldest)
	}
}

func (o *openShard) close() {
	defer o.done()
	_ = o.file.Close() // it was only read
}

// Close closes the shards. Nothing may be reading.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.shards {
		of.close()
	}
	clear(s.shards)
}
