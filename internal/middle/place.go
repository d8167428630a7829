package middle

import (
	"errors"

	"golang.org/x/sync/errgroup"

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
	syncs   *errgroup.Group // of shards that have come; nil has each synced before it counts as there
	known   *reuse.Sources  // bytes that need not be fetched; nil for none
}

// Open opens a shard of the draft.
func (a arrival) Open(s shard.Shard) (fetch.Place, error) {
	f, err := a.draft.Open(s.Number, s.Size)
	if err != nil {
		return nil, err
	}
	return a.version.Tee(s.Number, &place{Part: f, shard: s, of: a}), nil
}

// mostSyncs bounds the files that are synced, and open, at the same time.
const mostSyncs = 10

// newSyncs returns the syncs of an arrival.
func newSyncs() *errgroup.Group {
	g := new(errgroup.Group)
	g.SetLimit(mostSyncs)
	return g
}

// synced waits until all shards that have come are on the disk.
func (a arrival) synced() error {
	if a.syncs == nil {
		return nil
	}
	return a.syncs.Wait()
}

// end breaks off the readers of shards that have not arrived.
func (a arrival) end() {
	if a.version != nil {
		a.version.End()
	}
	_ = a.synced() // an error means that the version was not published
}

// place is the file of one shard.
type place struct {
	*store.Part

	shard     shard.Shard
	of        arrival
	committed bool
}

// Written returns the ranges of the file that are not holes, and those that it copies from
// where they are known to be.
func (p *place) Written() ([]disk.Range, error) {
	there, err := p.Part.Written(p.shard.Size)
	if err != nil {
		return nil, err
	}
	return p.of.known.Fill(p.shard, there, p)
}

// Commit has the shard written through to the disk, which [place.Close] begins: no worker waits for
// that. The error matches [tree.ErrTree] if the list of a tree's files is none of the shard.
func (p *place) Commit() error {
	if p.of.tree != nil {
		if err := p.of.tree.Check(p, p.shard.Offset, p.shard.Size); err != nil {
			return err
		}
	}
	if p.of.syncs == nil {
		return p.Sync()
	}
	p.committed = true
	return nil
}

// Close ends the use of the file.
func (p *place) Close() error {
	if !p.committed {
		return p.Part.Close()
	}
	p.of.syncs.Go(func() error { return errors.Join(p.Sync(), p.Part.Close()) })
	return nil
}
