package middle

import (
	"errors"
	"io/fs"
	"iter"
	"slices"

	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// mostKnown is the number of held versions whose bytes are reused: the newest. It bounds the
// memory for their digests.
const mostKnown = 3

// held is a version in the data directory.
type held struct {
	store    *store.Store
	version  shard.Version
	manifest shard.Manifest
}

// known returns the held versions whose bytes are reused, the newest first.
func (d directory) known() (known []held) {
	entries, err := d.store.Distribution()
	if err != nil {
		return nil // all is fetched then
	}
	for _, e := range slices.Backward(entries) {
		m, err := d.manifest(e.Version)
		if err != nil || isPlain(m) {
			continue // the checker says so
		}
		if known = append(known, held{d.store, e.Version, m}); len(known) == mostKnown {
			break
		}
	}
	return known
}

// link makes those shards of m that known versions have the draft's, unless it has them. The
// file system may have no links: then the shards are copied, see [sources].
func link(draft *store.Draft, m shard.Manifest, known []held) {
	type place struct {
		of     *held
		number int
	}
	at := make(map[shard.Digest]place)
	for i := range slices.Backward(known) {
		for n, digest := range known[i].manifest.Shards {
			at[digest] = place{&known[i], n + 1}
		}
	}
	for n, digest := range m.Shards {
		from, ok := at[digest]
		if !ok || from.of.manifest.Shard(from.number).Size != m.Shard(n+1).Size {
			continue
		}
		err := draft.Link(n+1, from.of.version, from.number)
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// sources returns where bytes of the version that m describes, which is the tree t unless that
// is nil, are in known versions.
func (f *fetcher) sources(v shard.Version, m shard.Manifest, t *tree.Tree, known []held) *reuse.Sources {
	sources := reuse.New(m, t, f.logger.With("version", v.String()))
	for _, h := range known {
		sources.Version(h.manifest, h.files(), h)
	}
	return sources
}

// files yields the files of the version, up to the first that cannot be read: none of a file. No list
// of them is in memory.
func (h held) files() iter.Seq[tree.File] {
	return func(yield func(tree.File) bool) {
		if h.manifest.Files == nil {
			return
		}
		text, err := h.store.Files(h.version)
		if err != nil {
			return // its bytes are fetched
		}
		defer text.Close()
		for f, err := range tree.Lines(text) {
			if err != nil || !yield(f) {
				return
			}
		}
	}
}

// Parts yields a part of each shard in its turn.
func (h held) Parts(offset, size int64) iter.Seq2[reuse.Part, error] {
	return func(yield func(reuse.Part, error) bool) {
		for end := offset + size; offset < end; {
			s := h.manifest.Shard(int(offset/h.manifest.ShardSize) + 1)
			at := offset - s.Offset
			n := min(s.Size-at, end-offset)
			if !h.part(s.Number, at, n, yield) {
				return
			}
			offset += n
		}
	}
}

// part yields size bytes of shard number from the offset at on.
func (h held) part(number int, at, size int64, yield func(reuse.Part, error) bool) bool {
	f, done, err := h.store.Shard(h.version, number)
	if err != nil {
		return yield(reuse.Part{}, err)
	}
	defer done()
	defer f.Close()
	return yield(reuse.Part{File: f, At: at, Size: size}, nil)
}
