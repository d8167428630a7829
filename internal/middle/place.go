package middle

import (
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// arrival is the draft of an arriving version, and its readers. The zero value is none.
type arrival struct {
	draft   *store.Draft
	tree    *tree.Tree // or nil, if it is a file
	version *relay.Version
	known   *reuse.Sources // bytes that need not be fetched; nil for none
}

// Open opens a shard of the draft.
func (a arrival) Open(s shard.Shard) (fetch.Place, error) {
	f, err := a.draft.Open(s.Number, s.Size)
	if err != nil {
		return nil, err
	}
	return a.version.Tee(s.Number, place{f, s, a}), nil
}

// end breaks off the readers of shards that have not arrived.
func (a arrival) end() {
	if a.version != nil {
		a.version.End()
	}
}

// place is the file of one shard.
type place struct {
	*store.Part

	shard shard.Shard
	of    arrival
}

// Written returns the ranges of the file that are not holes, and those that it copies from
// where they are known to be.
func (p place) Written() ([]disk.Range, error) {
	there, err := p.Part.Written(p.shard.Size)
	if err != nil {
		return nil, err
	}
	return p.of.known.Fill(p.shard, there, p)
}

// Commit writes the shard through to the disk. The error matches [tree.ErrTree] if the list of
// a tree's files is none of the shard.
func (p place) Commit() error {
	if p.of.tree != nil {
		if err := p.of.tree.Check(p, p.shard.Offset, p.shard.Size); err != nil {
			return err
		}
	}
	return p.Sync()
}
