package server

import (
	"fmt"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// A Dialect is the HTTP of the Python package from some release on. All paths are answered
// in one dialect below /py01, in the other below /py03, and at the root in that of
// [Options]. They differ in distribution.txt and data1.bin.
type Dialect int

// The dialects.
const (
	// Dialect01 is that of 0.1, and ours: a version is known by the SHA-256 of its file.
	Dialect01 Dialect = iota

	// Dialect03 is that of 0.3: a version is known by its BLAKE3, and by its number of shards.
	Dialect03

	dialects // the number of dialects
)

// dialectNames are the directories below which each dialect is spoken.
var dialectNames = map[string]Dialect{wire.Python01: Dialect01, wire.Python03: Dialect03}

// ParseDialect returns the dialect of a release, "0.1" or "0.3". An empty name is 0.1.
func ParseDialect(name string) (Dialect, error) {
	switch name {
	case "", "0.1":
		return Dialect01, nil
	case "0.3":
		return Dialect03, nil
	default:
		return 0, fmt.Errorf("dialect %.40q, want 0.1 or 0.3", name)
	}
}

// text returns the distribution in the dialect.
func (d Dialect) text(c *catalog.Catalog) ([]byte, error) {
	if d == Dialect03 {
		return text03(c)
	}
	entries, err := c.Entries()
	for i := range entries {
		entries[i].Count = 0
	}
	return distfile.Encode(entries), err
}

// text03 returns the distribution in Dialect03, of manifests. It omits versions without a
// known BLAKE3. A version of another program without a manifest is listed in both dialects
// as that program lists it, but for the number of shards in Dialect01.
func text03(c *catalog.Catalog) ([]byte, error) {
	offers, err := c.Offers()
	var entries []distfile.Entry
	for _, o := range offers {
		switch {
		case o.Foreign:
			entries = append(entries, o.Entry)
		case o.BLAKE3 != shard.Digest{}:
			entries = append(entries, distfile.Entry{Version: o.Entry.Version, Digest: o.BLAKE3, Count: o.Count})
		}
	}
	return distfile.Encode(entries), err
}
