package relay

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
)

// A Shard is one that is arriving. Its methods may be called from any goroutine.
type Shard struct {
	version *Version
	number  int
	size    int64

	mu       sync.Mutex    // guards what follows
	begun    bool          // somebody brings it, or has been asked to
	asked    bool          // somebody has waited for it
	have     []disk.Range  // ascending, none borders on another
	verified bool          // all of it
	turn     int           // how often it was wrong
	ended    bool          // nothing more comes
	changed  chan struct{} // closed when one of these changes; nil while nobody waits
}

// Begin says that somebody has begun to bring it.
func (s *Shard) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
}

// Wrote says that r has come and can be read.
func (s *Shard) Wrote(r disk.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Those that r touches become one with it.
	from, _ := slices.BinarySearchFunc(s.have, r.From, func(h disk.Range, at int64) int { return int(min(max(h.To-at, -1), 1)) })
	to := from
	for to < len(s.have) && s.have[to].From <= r.To {
		r.From, r.To = min(r.From, s.have[to].From), max(r.To, s.have[to].To)
		to++
	}
	s.have = slices.Replace(s.have, from, to, r)
	s.wake()
}

// Verify says that all of it is there, and right.
func (s *Shard) Verify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified = true
	s.wake()
}

// Forget says that what has come is wrong, and comes again.
func (s *Shard) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	s.have, s.verified = nil, false
	s.wake()
}

func (s *Shard) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

// wake tells those who wait. The caller holds mu.
func (s *Shard) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Size is the shard's, in bytes.
func (s *Shard) Size() int64 { return s.size }

// Verified reports whether all of it is there, and right.
func (s *Shard) Verified() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verified
}

func (s *Shard) extent() Extent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verified {
		return Extent{Verified: true, Begun: true, Bytes: s.size}
	}
	e := Extent{Begun: s.begun}
	for _, h := range s.have {
		e.Bytes += h.To - h.From
	}
	return e
}

// Asked reports whether a reader has waited for any of it.
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

// A Reader reads one shard, by one goroutine, while it arrives.
type Reader struct {
	shard *Shard
	turn  int
	file  *os.File // nil until there is something to read
}

// Ready returns how many bytes can be read from offset on at once.
func (r *Reader) Ready(offset int64) int64 {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	return r.shard.ready(offset)
}

// Await returns how many bytes can be read from offset on, 1 or more, as soon as
// there are any; if there are none and nobody has begun to bring the shard, it is begun
// next. It returns [ErrBroken] if they do not come, or have not within patience, though
// other parts of the shard may, and what ended ctx.
func (r *Reader) Await(ctx context.Context, offset int64, patience time.Duration) (int64, error) {
	s := r.shard
	var late <-chan time.Time
	for {
		s.mu.Lock()
		n := s.ready(offset)
		broken := s.turn != r.turn || s.ended && !s.verified
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.asked = s.asked || n == 0 && !broken
		if !s.begun && !broken && n == 0 {
			s.begun = true
			s.version.wanted <- s.number // has room for each once
		}
		s.mu.Unlock()
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

// ready is how many bytes can be read from offset on. The caller holds mu.
func (s *Shard) ready(offset int64) int64 {
	if s.verified {
		return s.size - offset
	}
	for _, h := range s.have {
		if h.From <= offset && offset < h.To {
			return max(min(h.To, s.size-HeldBack)-offset, 0)
		}
	}
	return 0
}

// ReadAt reads what [Reader.Await] has said is there. The error matches
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
