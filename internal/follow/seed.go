package follow

import (
	"io/fs"
	"path"
	"slices"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// describedName is the directory of the descriptions of versions.
const describedName = record.Hidden + "/versions"

// mostSeeds is the number of versions that a new one gets bytes from, the newest. It bounds
// the memory for their digests.
const mostSeeds = 3

// described is the directory of the description of f: its manifest and, of a tree, the list of its files,
// as they came, and the times of the files. By it the bytes of f are known to later downloads.
func described(f record.File) string { return describedBy(f.Version, f.Offered) }

// describedBy is the directory of the description of v, on offer under that digest: numbers may begin again.
func describedBy(v shard.Version, offered shard.Digest) string {
	return path.Join(describedName, v.String()+"-"+offered.String()[:16])
}

// seeds returns the versions here that a new one may have bytes of, the newest first.
func (d *directory) seeds() (seeds []client.Seed) {
	for _, f := range slices.Backward(d.record.Held) {
		if seeds = append(seeds, client.Seed{
			Path: d.full(f.Path), Record: d.full(described(f)),
		}); len(seeds) == mostSeeds {
			break
		}
	}
	return seeds
}

// forget removes the descriptions of versions that are neither here nor begun, and the lists of trees that
// earlier releases wrote.
func (d *directory) forget() {
	used := make(map[string]bool)
	for _, f := range d.record.Files() {
		used[described(f)] = true
	}
	for _, dir := range []string{describedName, record.Hidden} {
		entries, err := fs.ReadDir(d.root.FS(), dir)
		if err != nil {
			return // they are small, and go next time
		}
		for _, entry := range entries {
			name := path.Join(dir, entry.Name())
			if dir == describedName && !used[name] || path.Ext(name) == earlierSuffix {
				_ = d.root.RemoveAll(name) // one that stays is of no use, and of no harm
			}
		}
	}
}
