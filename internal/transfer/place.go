package transfer

import (
	"io"
	"iter"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Sink keeps the shards of one version. Open is called for different shards at the same
// time.
type Sink interface {
	// Open returns the place of s, with the data that an earlier fetch has left there.
	Open(s shard.Shard) (Place, error)
}

// A Place is where one shard is kept. Offsets count from the start of the shard, and
// nothing is read or written beyond its size. Its methods are called from several
// goroutines, but never two that write to the same bytes.
type Place interface {
	io.ReaderAt
	io.WriterAt

	// Written returns the ranges that may have been written, in ascending order. They are
	// verified before they count, so they may cover too much, and what they leave out is
	// fetched again.
	Written() ([]disk.Range, error)

	// Commit says that all of the shard is in its place and right.
	Commit() error

	// Close ends the use of the place, and keeps the data.
	Close() error
}

// An Audience are the readers of a version while it arrives.
type Audience interface {
	// Wanted yields the numbers of shards that readers wait for, which are begun before
	// others.
	Wanted() <-chan int

	// Asked reports whether any reader has waited for shard number.
	Asked(number int) bool

	// From says whether the server that sends shard number from now on holds all of it.
	From(number int, direct bool)

	// Forget says that the data of shard number is wrong, and comes again. Data that was
	// there before may have been part of it.
	Forget(number int)
}

// Pending yields the shards that readers wait for at the moment, of which no plan has
// heard.
func Pending(a Audience) iter.Seq[int] {
	return func(yield func(int) bool) {
		for {
			select {
			case number := <-a.Wanted():
				if !yield(number) {
					return
				}
			default:
				return
			}
		}
	}
}

// empty is the audience without readers.
type empty struct{}

// Wanted yields nothing.
func (empty) Wanted() <-chan int { return nil }

// Asked is false for all shards.
func (empty) Asked(int) bool { return false }

// From has no reader to reach.
func (empty) From(int, bool) {}

// Forget has no reader to reach.
func (empty) Forget(int) {}
