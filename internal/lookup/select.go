package lookup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/tree"
)

// Select returns the offer of the newest version that counts, see package offers, and has all
// of labels, as far back as [Finder.List] describes versions. It waits up to a time until
// there is one. Errors are those of [Finder.Await].
func (f *Finder) Select(ctx context.Context, labels map[string]string, wait time.Duration) (distfile.Entry, error) {
	words := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, name+"="+labels[name])
	}
	name := strings.Join(words, ",")
	s := &selection{finder: f, labels: labels, has: make(map[distfile.Entry]bool)}
	return f.await(ctx, wish{
		name: name, offered: s.newest,
		missing: func(offers []distfile.Entry) error {
			if len(offers) == 0 || f.count().Err != nil {
				return f.noLatest(offers)
			}
			return fmt.Errorf("%w: none of the %d on offer has the labels %s", fetch.ErrNoVersion, len(offers), name)
		},
	}, wait)
}

// A selection looks for the newest version with labels. One goroutine uses it.
type selection struct {
	finder *Finder
	labels map[string]string
	has    map[distfile.Entry]bool // whether a version has them, as far as that is known
}

// newest returns the newest version that counts and has the labels.
func (s *selection) newest(ctx context.Context) (distfile.Entry, bool) {
	count := s.finder.count()
	if count.Err != nil {
		return distfile.Entry{}, false
	}
	entries := count.Entries
	entries = slices.Clone(entries[max(0, len(entries)-mostManifests):])
	slices.Reverse(entries)
	ctx, cancel := context.WithTimeout(ctx, manifestPatience)
	defer cancel()
	for some := range slices.Chunk(entries, manifestsAtOnce) {
		s.learn(ctx, some)
		if i := slices.IndexFunc(some, func(e distfile.Entry) bool { return s.has[e] }); i >= 0 {
			return some[i], true
		}
	}
	return distfile.Entry{}, false
}

// learn asks for the manifests of entries that are not known yet.
func (s *selection) learn(ctx context.Context, entries []distfile.Entry) {
	asked := slices.DeleteFunc(slices.Clone(entries), func(e distfile.Entry) bool {
		_, known := s.has[e]
		return known
	})
	found := make([]map[string]string, len(asked))
	var group errgroup.Group
	for i, e := range asked {
		group.Go(func() error {
			m, err := s.finder.pool.Manifest(ctx, e)
			if err == nil {
				found[i] = m.Labels
				if found[i] == nil {
					found[i] = map[string]string{}
				}
			}
			return nil // a version that cannot be described now has no labels yet
		})
	}
	_ = group.Wait()
	for i, labels := range found {
		if labels != nil {
			s.has[asked[i]] = s.match(labels)
		}
	}
}

// match reports whether labels have all that are wanted.
func (s *selection) match(labels map[string]string) bool {
	for name, value := range s.labels {
		if has, ok := labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// Tree returns the files of a version that is a tree, as its manifest describes them. Errors
// are those of [fetch.Pool.Manifest] and [fetch.Pool.Files].
func (f *Finder) Tree(ctx context.Context, e distfile.Entry) (*tree.Tree, error) {
	m, err := f.pool.Manifest(ctx, e)
	if err != nil {
		return nil, err
	}
	if m.Files == nil {
		return nil, fmt.Errorf("%w: %s is a file now", fetch.ErrNoVersion, e.Version)
	}
	return f.pool.Files(ctx, fetch.Manifest{Entry: e, Stated: m}, nil)
}
