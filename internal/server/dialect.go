package server

import (
	"crypto/sha256"
	"fmt"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// A Dialect is the HTTP of the Python package from some release on. All paths are answered
// in each of them below a directory of its own, /py01 and so on, and at the root in that of
// [Options]. They differ in distribution.txt and data1.bin.
type Dialect int

// The dialects.
const (
	// DialectOwn is ours: a version is known by the SHA-256 of its file.
	DialectOwn Dialect = iota

	// Dialect01 is that of 0.1: a version is known by its SHA-256 and its number of shards.
	Dialect01

	// Dialect02 is that of 0.2: Dialect01 with data1.bin.
	Dialect02

	// Dialect03 is that of 0.3: a version is known by its BLAKE3 and its number of shards, and
	// there is data1.bin.
	Dialect03

	dialects // the number of dialects
)

// releases are the names of the dialects as options.
var releases = map[string]Dialect{"": DialectOwn, "0.1": Dialect01, "0.2": Dialect02, "0.3": Dialect03}

// dialectNames are the directories below which each dialect is spoken.
var dialectNames = map[string]Dialect{
	wire.Python01: Dialect01, wire.Python02: Dialect02, wire.Python03: Dialect03,
}

// ParseDialect returns the dialect of a release, "0.1", "0.2" or "0.3". An empty name is
// ours.
func ParseDialect(name string) (Dialect, error) {
	d, ok := releases[name]
	if !ok {
		return 0, fmt.Errorf("dialect %.40q, want 0.1, 0.2 or 0.3", name)
	}
	return d, nil
}

// probes reports whether clients of the dialect expect data1.bin.
func (d Dialect) probes() bool { return d == Dialect02 || d == Dialect03 }

// alone returns the distribution in the dialect, as the Python package has it.
func (d Dialect) alone(c *catalog.Catalog) (offer, error) {
	text, err := d.text(c)
	return offer{text: text, tag: shard.Digest(sha256.Sum256(text)).String()}, err
}

// besideRelease returns the distribution in the dialect, beside the release. Where there is one,
// its digest is part of the entity tag, so that a client, and a cache on the way, that has the one
// text with an earlier release gets it anew. The release comes after the text, as at a publication,
// so that no release is older than the list beside it.
func (d Dialect) besideRelease(c *catalog.Catalog) (offer, error) {
	o, err := d.alone(c)
	if err != nil {
		return offer{}, err
	}
	beside, err := releaseOffer(c)
	if beside.tag != "" {
		o.tag, o.release = o.tag+"-"+beside.tag, beside.release
	}
	return o, err
}

// text returns the distribution in the dialect. A Python dialect omits versions without a
// manifest, whose number of shards is not known, and Dialect03 those whose BLAKE3 is not known yet.
// A version of another program without a manifest is listed in all of them as that program
// lists it.
func (d Dialect) text(c *catalog.Catalog) ([]byte, error) {
	if d == DialectOwn {
		return ownText(c)
	}
	offers, err := c.Offers()
	var entries []distfile.Entry
	for _, o := range offers {
		digest := o.SHA256
		if d == Dialect03 {
			digest = o.BLAKE3
		}
		switch {
		case o.Foreign:
			entries = append(entries, o.Entry)
		case digest != shard.Digest{}:
			entries = append(entries, distfile.Entry{Version: o.Entry.Version, Digest: digest, Count: o.Count})
		}
	}
	for i := range entries {
		// Python programs stop at a line without a number, and fetch a file by its shards: an
		// empty one has an empty shard for them, see [catalog.Catalog.Shard].
		if shard.IsEmpty(entries[i].Digest) {
			entries[i].Count = 1
		}
	}
	return distfile.Encode(entries), err
}

// ownText returns the distribution in DialectOwn: all versions, without a number of shards.
func ownText(c *catalog.Catalog) ([]byte, error) {
	entries, err := c.Entries()
	for i := range entries {
		entries[i].Count = 0
	}
	return distfile.Encode(entries), err
}
