package offers

import (
	"context"
	"slices"
	"strings"
)

// treeSuffix ends the name of a version that is a tree.
const treeSuffix = ".tar"

// richer returns the manifest of another server that states the same as m, and also that the
// version is a tree: servers of before there were trees strip that. Without one it returns m.
// A server that hangs delays it by [Soon].
func (c *Choice) richer(ctx context.Context, m Manifest) Manifest {
	if m.Stated.Files != nil || !strings.HasSuffix(m.Stated.Name, treeSuffix) {
		return m
	}
	ctx, cancel := context.WithTimeout(ctx, Soon)
	defer cancel()
	for _, s := range c.offers.opts.Roster.Servers() {
		if s == m.Source || !c.want.May(s) {
			continue
		}
		other, err := c.offers.manifestAt(ctx, s, c.want.Entry, c.entry)
		if err == nil && other.Stated.Files != nil && !alreadyTried(c.tried, other.Stated) &&
			other.Stated.Digest == m.Stated.Digest && slices.Equal(other.Stated.Shards, m.Stated.Shards) {
			return other
		}
	}
	return m
}
