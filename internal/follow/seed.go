package follow

import (
	"io/fs"
	"path"
	"slices"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/shard"
)

// describedName is the directory of the descriptions of versions.
const describedName = hidden + "/versions"

// mostSeeds is the number of versions that a new one gets bytes from, the newest. It bounds
// the memory for their digests.
const mostSeeds = 3

// describe returns the path of the directory for the description of v, by which its bytes are
// known to later downloads.
func (d *directory) describe(v shard.Version) string {
	if err := d.root.Mkdir(describedName, 0o700); err != nil && d.isMissing(describedName) {
		return "" // the next version is fetched as a whole
	}
	return d.full(path.Join(describedName, v.String()))
}

// seeds returns the versions here that a new one may have bytes of, the newest first.
func (d *directory) seeds() (seeds []client.Seed) {
	for _, f := range slices.Backward(d.record.Held) {
		if seeds = append(seeds, client.Seed{
			Path: d.full(f.Path), Record: d.full(path.Join(describedName, f.Version.String())),
		}); len(seeds) == mostSeeds {
			break
		}
	}
	return seeds
}

// forget removes the descriptions of versions that are neither here nor begun.
func (d *directory) forget() {
	entries, err := fs.ReadDir(d.root.FS(), describedName)
	if err != nil {
		return // there is none
	}
	for _, entry := range entries {
		v, err := shard.ParseVersion(entry.Name())
		begun := d.record.Begun != nil && d.record.Begun.Version == v
		if err != nil || begun || slices.ContainsFunc(d.record.Held, func(f file) bool { return f.Version == v }) {
			continue
		}
		_ = d.root.RemoveAll(path.Join(describedName, entry.Name())) // one that stays is of no use, and of no harm
	}
}
