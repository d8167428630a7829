package middle

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// rebuilder fills an arrival by a delta, whose base is a held version, and keeps the delta for readers, who get its
// shards as they arrive.
type rebuilder struct {
	dir      directory
	to       arrival
	manifest shard.Manifest

	mu      sync.Mutex // guards what follows
	text    []byte     // the delta's manifest
	bytes   *store.Draft
	readers *relay.Version
}

// rebuilder returns what fills a by a delta.
func (f *fetcher) rebuilder(a arrival) fetch.Rebuilder {
	return &rebuilder{dir: f.dir, to: a, manifest: a.version.Manifest}
}

// expect notes on arriving which deltas may come: those whose bases are held, or the one that is relayed.
func (d directory) expect(arriving *relay.Version) {
	for _, line := range arriving.Manifest.Deltas {
		if _, ok := d.withDigest(line.BaseDigest); ok {
			arriving.ExpectDelta(line.Base)
		}
	}
	if line, ok := relayed(arriving.Manifest); ok {
		arriving.ExpectDelta(line.Base)
	}
}

// leastRelayed is how many times smaller than its version a delta has to be for readers to get it from a middle that
// does not apply it.
const leastRelayed = 2

// relayed returns the delta of the version that m describes which is fetched for readers alone when none is applied:
// that from the newest base, which most of them have.
func relayed(m shard.Manifest) (newest shard.Delta, ok bool) {
	for _, line := range m.Deltas {
		if line.Base > newest.Base && line.Size <= m.Size/leastRelayed {
			newest, ok = line, true
		}
	}
	return newest, ok
}

// Relay returns the delta that readers get: they may lack the base that is missing here, or be behind a slower link.
func (r *rebuilder) Relay() (line shard.Delta, ok bool) { return relayed(r.manifest) }

// withDigest returns the held version of that digest.
func (d directory) withDigest(digest shard.Digest) (held, bool) {
	entries, err := d.store.Distribution()
	if err != nil {
		return held{}, false // all is fetched then
	}
	for _, e := range slices.Backward(entries) {
		if m, err := d.manifest(e.Version); err == nil && m.Digest == digest && !isPlain(m) {
			return held{d.store, e.Version, m}, true
		}
	}
	return held{}, false
}

// There returns the ranges of the draft's shards that are no holes, and those that held versions have.
func (r *rebuilder) There() (there []disk.Range, err error) {
	for i := range r.manifest.Shards {
		s := r.manifest.Shard(i + 1)
		f, err := r.to.draft.Open(s.Number, s.Size)
		if err != nil {
			return nil, err
		}
		ranges, err := f.Written(s.Size)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		for _, w := range ranges {
			there = reuse.Union(there, disk.Range{From: s.Offset + w.From, To: s.Offset + w.To})
		}
	}
	for _, known := range r.to.known.Known() {
		there = reuse.Union(there, known)
	}
	return there, nil
}

// Base returns the held version of that digest.
func (r *rebuilder) Base(_ context.Context, digest shard.Digest) (fetch.Base, error) {
	h, ok := r.dir.withDigest(digest)
	if !ok {
		return nil, nil //nolint:nilnil // as documented
	}
	return baseStream{h.store.Stream(h.version, h.manifest)}, nil
}

// baseStream is a base that is open.
type baseStream struct{ *store.Stream }

// Close closes the shards.
func (b baseStream) Close() error {
	b.Stream.Close()
	return nil
}

// WriteAt writes to the files of the shards.
func (r *rebuilder) WriteAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		s := r.manifest.Shard(int(offset/r.manifest.ShardSize) + 1)
		at := offset - s.Offset
		part := p[n:min(int64(len(p)), int64(n)+s.Size-at)]
		f, err := r.to.draft.Open(s.Number, s.Size)
		if err != nil {
			return n, err
		}
		written, err := f.WriteAt(part, at)
		n, offset = n+written, offset+int64(written)
		if err = errors.Join(err, f.Close()); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Delta begins the draft of the delta, beside that of its version, and lists it for readers.
func (r *rebuilder) Delta(
	_ context.Context, line shard.Delta, m shard.DeltaManifest, text []byte, tier int,
) (fetch.Sink, fetch.Audience, error) {
	bytes, err := r.to.draft.Delta(line.Base)
	if err != nil {
		return nil, nil, err
	}
	of := distfile.Entry{Version: r.to.draft.Version(), Digest: m.Digest}
	readers := relay.NewBoard().Begin(of, m.Content(), tier, relay.Files(bytes.Read))
	readers.SetText(text)
	r.to.version.BringDelta(line.Base, readers)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text, r.bytes, r.readers = text, bytes, readers
	return arrival{draft: bytes, version: readers}, readers, nil
}

// Between begins the draft of a delta that comes before, which goes when the version is published.
func (r *rebuilder) Between(_ context.Context, number int, m shard.Manifest) (fetch.Sink, error) {
	bytes, err := r.to.draft.Before(number)
	if err != nil {
		return nil, err
	}
	of := distfile.Entry{Version: r.to.draft.Version(), Digest: m.Digest}
	return arrival{draft: bytes, version: relay.NewBoard().Begin(of, m, 0, relay.Files(bytes.Read))}, nil
}

// EndDelta keeps the delta if it is whole, for the version to be published with it.
func (r *rebuilder) EndDelta(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes != nil && err == nil {
		err = r.bytes.Write(shard.ManifestName, r.text)
	}
	if r.bytes == nil || err != nil {
		r.to.version.NoDelta()
	}
	if r.bytes != nil && err != nil {
		r.readers.End()
	}
}
