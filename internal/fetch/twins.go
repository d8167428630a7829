package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	if m.BLAKE3 == (shard.Digest{}) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.twins) >= distfile.MaxEntries {
		// The oldest goes. Of one that is held, what offers it by its BLAKE3 would be taken
		// for another file, and it for replaced.
		oldest := slices.MinFunc(slices.Collect(maps.Keys(p.twins)), func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
		delete(p.twins, oldest)
	}
	p.twins[distfile.Entry{Version: v, Digest: m.BLAKE3}] = m.Digest
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

// byAnother reports whether u offers e's version, but by another digest.
func (p *Pool) byAnother(u *upstream, e distfile.Entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(u.offered, func(o distfile.Entry) bool {
		return o.Version == e.Version && p.canonical(o).Digest != p.canonical(e).Digest
	})
}

// twin gets the manifest of e from an upstream that offers it by another digest than e
// states, if there is one, and says which. Each of them is asked once.
func (p *Pool) twin(ctx context.Context, e distfile.Entry, refused *refusals) (m shard.Manifest, tier int, source *upstream, err error) {
	_, _, err = p.attempt(ctx, quest{entry: e, others: true, refused: refused, try: func(u *upstream) (err error) {
		source = u
		m, tier, err = p.manifest(ctx, u, e, false)
		return err
	}})
	if errors.Is(err, errNobody) {
		err = fmt.Errorf("%w: no manifest of the file with digest %s", fs.ErrNotExist, e.Digest)
	}
	return m, tier, source, err
}
