package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/shard"
)

// ErrLineage means that a version does not fit into its run, by its labels: its number is taken, what it
// needs is not there or too much, or another run has begun.
var ErrLineage = errors.New("the version does not fit into its run")

// A retention decides which versions a directory keeps: the newest, pinned ones, and those
// that these need by their labels.
type retention struct {
	store    *Store
	settings Settings
	err      error // of a manifest that cannot be read now: then nothing is decided
}

// surplus returns those of entries, which are ascending, that are not to be kept. As many are
// kept of those that are beside the others.
func (r *retention) surplus(entries []distfile.Entry) (versions []shard.Version, err error) {
	beside := r.store.beside()
	left := map[bool]int{false: r.settings.MaxVersions, true: r.settings.MaxVersions}
	kept := make([]bool, len(entries))
	for i, e := range slices.Backward(entries) {
		group := slices.ContainsFunc(beside, e.Same)
		kept[i] = left[group] > 0 || slices.Contains(r.settings.Pinned, e.Version)
		left[group]--
	}
	r.keepNeeded(entries, kept)
	for i, e := range entries {
		if !kept[i] {
			versions = append(versions, e.Version)
		}
	}
	return versions, r.err
}

// keepNeeded marks those of entries that the kept ones need.
func (r *retention) keepNeeded(entries []distfile.Entry, kept []bool) {
	// Most versions have no number, and then no manifest of the others is read.
	needed := false
	for i, e := range entries {
		_, has := lineage.PlaceOf(r.labels(e))
		needed = needed || !kept[i] && has
	}
	if !needed {
		return
	}
	run := r.places(entries)
	for i := range slices.Clone(kept) {
		if !kept[i] {
			continue
		}
		chain := run.chain(r.labels(entries[i]), i)
		for _, n := range chain[:min(len(chain), r.settings.keptChain()-1)] {
			kept[n] = true
		}
	}
}

// check returns an error matching [ErrLineage] if a version with labels, newer than all of
// entries, would need one that is not there, or make a chain that is too long.
func (r *retention) check(entries []distfile.Entry, labels map[string]string) error {
	need, needs := lineage.NeedOf(labels)
	if !needs {
		return nil
	}
	chain := r.places(entries).chain(labels, len(entries))
	switch {
	case r.err != nil:
		return r.err
	case len(chain) == 0:
		return fmt.Errorf("%w: by its label after it needs %s, which %s does not have; publish that first, or a full "+
			"version, without that label", ErrLineage, need, r.store.dir)
	case len(chain) >= r.settings.maxChain():
		return fmt.Errorf("%w: by its label after it is number %d of a chain, and max-chain allows %d; "+
			"publish a full version, without that label, or begin a new run",
			ErrLineage, len(chain)+1, r.settings.maxChain())
	}
	return nil
}

// places has the versions of a directory by their labels.
type places struct {
	labels []map[string]string     // of each version, ascending
	at     map[lineage.Place][]int // the versions that have a place, ascending
}

func (r *retention) places(entries []distfile.Entry) places {
	p := places{labels: make([]map[string]string, len(entries)), at: make(map[lineage.Place][]int)}
	for i, e := range entries {
		p.labels[i] = r.labels(e)
		if place, ok := lineage.PlaceOf(p.labels[i]); ok {
			p.at[place] = append(p.at[place], i)
		}
	}
	return p
}

// chain returns the versions that one with labels needs, which is older than version i alone:
// the next one first.
func (p places) chain(labels map[string]string, i int) (chain []int) {
	for {
		need, ok := lineage.NeedOf(labels)
		if !ok {
			return chain
		}
		older := p.at[need]
		n, _ := slices.BinarySearch(older, i)
		if n == 0 {
			return chain
		}
		i = older[n-1]
		chain = append(chain, i)
		labels = p.labels[i]
	}
}

// labels returns those of a version on offer, and none of one without a manifest.
func (r *retention) labels(e distfile.Entry) map[string]string {
	labels, err := r.store.labelsOf(e)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, shard.ErrManifest) {
		r.err = errors.Join(r.err, fmt.Errorf("data directory %s: labels of %s: %w", r.store.dir, e.Version, err))
	}
	return labels
}

// labelsOf returns the labels of a version on offer. They do not change, so each manifest is
// read once.
func (s *Store) labelsOf(e distfile.Entry) (map[string]string, error) {
	s.labelling.Lock()
	defer s.labelling.Unlock()
	if known, ok := s.labels[e]; ok {
		return known, nil
	}
	f, err := s.Manifest(e.Version)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := shard.ParseManifest(f)
	if err != nil {
		return nil, err
	}
	s.keepLabels(e, m.Labels)
	return m.Labels, nil
}

// knowLabels notes those of a version that is about to be on offer.
func (s *Store) knowLabels(e distfile.Entry, labels map[string]string) {
	s.labelling.Lock()
	defer s.labelling.Unlock()
	s.keepLabels(e, labels)
}

func (s *Store) keepLabels(e distfile.Entry, labels map[string]string) {
	if s.labels == nil || len(s.labels) >= distfile.MaxEntries {
		s.labels = make(map[distfile.Entry]map[string]string)
	}
	s.labels[e] = labels
}
