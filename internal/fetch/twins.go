package fetch

import (
	"cmp"
	"maps"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// A file has two digests, and a distribution does not say which of them it states. Two
// upstreams that state different ones may offer the same file.

// Know says that v is the file that m tells of, which has been verified, so that those
// who offer it by its BLAKE3 are known to offer the same as others.
func (p *Pool) Know(v shard.Version, m shard.Manifest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep(p.manifested, distfile.Entry{Version: v, Digest: m.Digest}, true)
	if m.BLAKE3 != (shard.Digest{}) {
		keep(p.twins, distfile.Entry{Version: v, Digest: m.BLAKE3}, m.Digest)
	}
}

// keep puts a value into what is known of versions, of which the oldest goes where there
// are too many. Of one that is held, what offers it by its BLAKE3 would be taken for another
// file, and it for replaced.
func keep[T any](known map[distfile.Entry]T, e distfile.Entry, value T) {
	if len(known) >= distfile.MaxEntries {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(known)), func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
		delete(known, oldest)
	}
	known[e] = value
}

// Canonical returns e by its SHA-256, if it is by its BLAKE3 and [Pool.Know] has told
// of that.
func (p *Pool) Canonical(e distfile.Entry) distfile.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.canonical(e)
}

// canonical is Canonical for holders of the pool's mu.
func (p *Pool) canonical(e distfile.Entry) distfile.Entry {
	if digest, ok := p.twins[distfile.Entry{Version: e.Version, Digest: e.Digest}]; ok {
		e.Digest = digest
	}
	return e
}
