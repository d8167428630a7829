package middle

import (
	"errors"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// arrival is the draft of an arriving version, and its readers. The zero value is none.
type arrival struct {
	draft   *store.Draft
	tree    *tree.Tree // or nil, if it is a file
	version *relay.Version
}

// Open opens a shard of the draft.
func (a arrival) Open(s shard.Shard) (fetch.Place, error) {
	f, err := a.draft.Open(s.Number)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > s.Size {
		err = f.Truncate(s.Size) // another manifest had larger shards
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a.version.Tee(s.Number, place{f, s, a.tree}), nil
}

// end breaks off the readers of shards that have not arrived.
func (a arrival) end() {
	if a.version != nil {
		a.version.End()
	}
}

// place is the file of one shard.
type place struct {
	file  *os.File
	shard shard.Shard
	tree  *tree.Tree // or nil
}

// ReadAt reads from the file.
func (p place) ReadAt(data []byte, offset int64) (int, error) { return p.file.ReadAt(data, offset) }

// WriteAt writes to the file.
func (p place) WriteAt(data []byte, offset int64) (int, error) { return p.file.WriteAt(data, offset) }

// Close closes the file.
func (p place) Close() error { return p.file.Close() }

// Written returns the ranges of the file that are not holes.
func (p place) Written() ([]disk.Range, error) { return disk.Written(p.file, 0, p.shard.Size) }

// Commit writes the shard through to the disk. The error matches [tree.ErrTree] if the list of
// a tree's files is none of the shard.
func (p place) Commit() error {
	if p.tree != nil {
		if err := p.tree.Check(p.file, p.shard.Offset, p.shard.Size); err != nil {
			return err
		}
	}
	return p.file.Sync()
}
