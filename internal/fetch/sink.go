package fetch

import (
	"io"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Sink keeps the shards of one version. Its methods are called for different
// shards at the same time.
type Sink interface {
	// Open returns the place of s, with whatever an earlier fetch has left there.
	Open(s shard.Shard) (Place, error)

	// Wanted yields the numbers of shards that somebody waits for, which are begun
	// before others. It never blocks for long, and may be nil.
	Wanted() <-chan int

	// Asked reports whether anybody has waited for shard number.
	Asked(number int) bool
}

// A Place is where one shard is kept. Offsets count from the begin of the shard,
// and nothing is read or written beyond its size. Its methods are called from
// several goroutines, but never two that write to the same bytes.
type Place interface {
	io.ReaderAt
	io.WriterAt

	// Written returns what may have been written, in ascending order. It is not
	// believed, so it may name too much, and what it leaves out is fetched again.
	Written() ([]disk.Range, error)

	// From says whether who sends what is written from now on has all of the shard.
	From(whole bool)

	// Forget says that what was written is wrong, and is written again. What was
	// there before may have been part of it.
	Forget()

	// Commit says that all of the shard is in its place and right.
	Commit() error

	// Close ends the use of the place, and keeps what is there.
	Close() error
}
