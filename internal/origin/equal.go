package origin

import (
	"errors"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// mostKnown is the number of published versions that share equal shards with a new one: the
// newest. It bounds the memory for their digests.
const mostKnown = 3

// equals are the shards of published versions, by which a draft gets the equal ones without
// storing them again. It never changes.
type equals struct {
	store *store.Store
	draft *store.Draft
	at    map[shard.Digest]published
}

// published is a shard of a version.
type published struct {
	version shard.Version
	shard   shard.Shard
}

// equalsFor returns the shards of the newest versions for a draft.
func (o *Origin) equalsFor(draft *store.Draft) equals {
	e := equals{store: o.store, draft: draft, at: make(map[shard.Digest]published)}
	entries, err := o.store.Distribution()
	if err != nil {
		return e // the publication finds out
	}
	for _, entry := range entries[max(0, len(entries)-mostKnown):] {
		m, err := manifestOf(o.store, entry.Version)
		if err != nil {
			continue // such as one of the Python package
		}
		for i, digest := range m.Shards {
			e.at[digest] = published{entry.Version, m.Shard(i + 1)}
		}
	}
	return e
}

// has makes the published shard of that digest shard number of the draft, too, and reports
// whether it could: there is one, all of it is right on the disk, and the file system has
// links.
func (e equals) has(number int, digest shard.Digest) bool {
	at, ok := e.at[digest]
	if !ok {
		return false
	}
	f, done, err := e.store.Shard(at.version, at.shard.Number)
	if err != nil {
		return false
	}
	defer done()
	err = errors.Join(at.shard.Verify(f, make([]byte, checked)), f.Close())
	return err == nil && e.draft.Link(number, at.version, at.shard.Number) == nil
}

// checked in bytes is read at a time of a shard that is verified.
const checked = 256 << 10
