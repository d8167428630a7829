package slots

import (
	"errors"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// maxSent bounds the streams of which sent shards are noted: those of versions, and of deltas.
const maxSent = 32

// A Stream is that of a version, or of the delta from Base to it if that is not zero.
type Stream struct{ Version, Base shard.Version }

// ErrSent means that a shard is not fresh.
var ErrSent = errors.New("the shard has been sent to another node")

// A Ledger notes which shards were sent to nodes: those that were not are fresh. It remembers the
// shards of 32 streams.
type Ledger struct {
	mu      sync.Mutex // guards what follows
	streams map[Stream]*sent
}

// sent are the shards of one stream that were sent.
type sent struct {
	digest shard.Digest // of the stream
	shards []bool
	under  map[int]int // the answers under way of a shard
}

// NewLedger returns a Ledger without a shard.
func NewLedger() *Ledger { return &Ledger{streams: make(map[Stream]*sent)} }

// of returns the shards of a stream with the manifest m, or nil.
func (l *Ledger) of(which Stream, m shard.Manifest) *sent {
	if s := l.streams[which]; s != nil && s.digest == m.Digest && len(s.shards) == len(m.Shards) {
		return s
	}
	return nil
}

// Begin notes that a shard of a stream with the manifest m is being sent. It returns [ErrSent]
// if the shard is to be fresh, and was sent or is being sent. The caller calls ended with the
// number of bytes that were sent: a shard was sent when all of it was.
func (l *Ledger) Begin(
	which Stream, number int, m shard.Manifest, fresh bool,
) (ended func(bytes int64), err error) {
	if number > len(m.Shards) {
		return func(int64) {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(which, m)
	if s == nil {
		for other := range l.streams {
			if len(l.streams) < maxSent {
				break
			}
			delete(l.streams, other) // at worst a shard is sent once more
		}
		s = &sent{m.Digest, make([]bool, len(m.Shards)), make(map[int]int)}
		l.streams[which] = s
	}
	if fresh && (s.shards[number-1] || s.under[number] > 0) {
		return nil, ErrSent
	}
	s.under[number]++
	return func(bytes int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.under[number]--; s.under[number] == 0 {
			delete(s.under, number)
		}
		if bytes >= m.Shard(number).Size {
			s.shards[number-1] = true
		}
	}, nil
}

// IsFresh reports whether a shard of a stream with the manifest m was sent to no node, and is
// not being sent.
func (l *Ledger) IsFresh(which Stream, number int, m shard.Manifest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(which, m)
	return s == nil || number > len(s.shards) || !s.shards[number-1] && s.under[number] == 0
}

// Sent returns the numbers of the shards of a stream with the manifest m that were sent.
func (l *Ledger) Sent(which Stream, m shard.Manifest) (numbers []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.of(which, m); s != nil {
		for i, is := range s.shards {
			if is {
				numbers = append(numbers, i+1)
			}
		}
	}
	return numbers
}
