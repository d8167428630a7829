package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/signal"
)

// A Shard is one that is arriving. Its methods may be called from any goroutine.
type Shard struct {
	version *Version
	number  int
	size    int64

	mu     sync.Mutex // guards what follows
	begun  bool       // a fetch brings it, or was asked to
	asked  bool       // a reader has waited for it
	direct bool       // see From
	have   contents
	turn   int  // how often it was wrong
	ended  bool // nothing more comes

	changed signal.Signal // of have, turn and ended
}

// Begin notes that a fetch has begun to bring the shard.
func (s *Shard) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
}

// From notes whether the sender holds the whole shard from now on: then peers may read it
// here while it arrives. Otherwise they may not, for nodes that feed one another would
// wait for ever when the one feed that they all have is lost.
func (s *Shard) From(whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.direct = whole
}

// Direct returns the last argument of [Shard.From].
func (s *Shard) Direct() bool { return s.extent().Direct }

// Wrote notes that r has come and can be read.
func (s *Shard) Wrote(r disk.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have.add(r)
	s.changed.Raise()
}

// Verify notes that the whole shard is here, and right.
func (s *Shard) Verify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have.verified = true
	s.changed.Raise()
}

// Forget notes that the bytes so far are wrong, and come again. It breaks off all readers.
func (s *Shard) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	s.have = contents{}
	s.changed.Raise()
}

func (s *Shard) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.changed.Raise()
}

// Size is the shard's, in bytes.
func (s *Shard) Size() int64 { return s.size }

// Verified reports whether the whole shard is here, and right.
func (s *Shard) Verified() bool { return s.extent().Verified }

func (s *Shard) extent() Extent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have.verified {
		return Extent{Verified: true, Begun: true, Direct: s.direct, Bytes: s.size}
	}
	return Extent{Begun: s.begun, Direct: s.direct, Bytes: s.have.size()}
}

// Asked reports whether a reader has waited for bytes of the shard.
func (s *Shard) Asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Reader returns a reader of the shard.
func (s *Shard) Reader() *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Reader{shard: s, turn: s.turn}
}

// look returns the number of bytes that a reader of a turn can read from offset on, and
// whether those that are missing do not come. If the reader has to wait, look notes that,
// and has the shard fetched next.
func (s *Shard) look(turn int, offset int64) (n int64, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = s.have.readable(s.size, offset)
	broken = s.turn != turn || s.ended && !s.have.verified
	if n == 0 && !broken {
		s.asked = true
		if !s.begun {
			s.begun = true
			s.version.wanted <- s.number // has room for each once
		}
	}
	return n, broken
}

// contents are the parts of a shard that have come. The zero value is none.
type contents struct {
	parts    []disk.Range // ascending, none borders on another
	verified bool         // the whole shard
}

// add adds r, and joins it with the parts that it touches.
func (c *contents) add(r disk.Range) {
	from, _ := slices.BinarySearchFunc(c.parts, r.From, func(p disk.Range, at int64) int {
		return int(min(max(p.To-at, -1), 1))
	})
	to := from
	for to < len(c.parts) && c.parts[to].From <= r.To {
		r.From, r.To = min(r.From, c.parts[to].From), max(r.To, c.parts[to].To)
		to++
	}
	c.parts = slices.Replace(c.parts, from, to, r)
}

// size returns the number of bytes that have come.
func (c *contents) size() (bytes int64) {
	for _, p := range c.parts {
		bytes += p.To - p.From
	}
	return bytes
}

// readable returns the number of bytes that can be read from offset on, of a shard of
// size bytes.
func (c *contents) readable(size, offset int64) int64 {
	if c.verified {
		return size - offset
	}
	for _, p := range c.parts {
		if p.From <= offset && offset < p.To {
			return max(min(p.To, size-HeldBack)-offset, 0)
		}
	}
	return 0
}

// A Reader reads one shard, by one goroutine, while it arrives.
type Reader struct {
	shard *Shard
	turn  int
	file  File // nil until there is something to read
}

// Ready returns the number of bytes that can be read from offset on at once.
func (r *Reader) Ready(offset int64) int64 {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	return r.shard.have.readable(r.shard.size, offset)
}

// Await returns the number of bytes that can be read from offset on, 1 or more, as soon as
// there are any; if there are none and no fetch has begun to bring the shard, one begins
// next. It returns [ErrBroken] if they do not come, or have not within patience, though
// other parts of the shard may, and the cause of the end of ctx.
func (r *Reader) Await(ctx context.Context, offset int64, patience time.Duration) (int64, error) {
	var late <-chan time.Time
	for {
		changed := r.shard.changed.Wait()
		n, broken := r.shard.look(r.turn, offset)
		switch {
		case broken:
			return 0, ErrBroken
		case n > 0:
			return n, nil
		}
		if late == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-late:
			return 0, ErrBroken
		}
	}
}

// ReadAt reads bytes that [Reader.Await] has returned as readable. The error matches
// [fs.ErrNotExist] if the shard was moved to where the version is held.
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) {
	if r.file == nil {
		file, err := r.shard.version.Open(r.shard.number)
		if err != nil {
			return 0, err
		}
		r.file = file
	}
	return r.file.ReadAt(p, offset)
}

// Close ends the reading.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
