package middle

import (
	"slices"

	"github.com/shardcast/shardcast/internal/shard"
)

// isPlain reports whether m comes from upstreams without a manifest, so that the digests of
// its shards are missing. After [filled] the missing date shows it.
func isPlain(m shard.Manifest) bool {
	return len(m.Shards) > 0 && (m.Shards[0] == shard.Digest{} || m.Shards[0] == m.Digest && m.Date.IsZero())
}

// filled returns m with the digest of the file in place of missing digests of shards, as a
// draft needs a manifest that can be written. A later run reads only the file's digest.
func filled(m shard.Manifest) shard.Manifest {
	m.Shards = slices.Clone(m.Shards)
	for i, digest := range m.Shards {
		if digest == (shard.Digest{}) {
			m.Shards[i] = m.Digest
		}
	}
	return m
}
