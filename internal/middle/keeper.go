package middle

import (
	"errors"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// keeper is a draft as the fetcher wants it, from which others read what arrives.
type keeper struct {
	draft   *store.Draft
	version *relay.Version
}

// Open opens a shard of the draft.
func (k keeper) Open(s shard.Shard) (fetch.Place, error) {
	f, err := k.draft.Open(s.Number)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > s.Size {
		err = f.Truncate(s.Size) // by another manifest it was longer
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := place{f, k.version.Shard(s.Number)}
	p.shard.Begin()
	return p, nil
}

// Wanted yields the shards that others wait for.
func (k keeper) Wanted() <-chan int { return k.version.Wanted() }

// Asked reports whether others have waited for shard number.
func (k keeper) Asked(number int) bool { return k.version.Shard(number).Asked() }

// place is a shard's file, and what others are told of it.
type place struct {
	*os.File

	shard *relay.Shard
}

// Written returns what is there. Nobody is given that before it has been verified.
func (p place) Written() ([]disk.Range, error) { return disk.Written(p.File, 0, p.shard.Size()) }

// WriteAt writes what has come, and gives it to those who wait for it.
func (p place) WriteAt(data []byte, offset int64) (int, error) {
	n, err := p.File.WriteAt(data, offset)
	if err == nil {
		p.shard.Wrote(disk.Range{From: offset, To: offset + int64(n)})
	}
	return n, err
}

// From notes whether who sends it has all of it.
func (p place) From(whole bool) { p.shard.From(whole) }

// Forget has those who read what was wrong broken off.
func (p place) Forget() { p.shard.Forget() }

// Commit writes the shard through to the disk, and gives it to all who ask.
func (p place) Commit() error {
	p.shard.Verify()
	return p.Sync()
}
