// Package policy says which versions a data directory keeps and which may come in: by its settings, and by the
// places that versions have in their runs. It refuses to know files, and where labels come from.
//
// What a caller may lean on: the newest versions and the pinned ones are kept, and with a version those that it
// needs, up to the length of a chain. All lists of versions are ascending.
package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/shard"
)

// ErrLineage means that a version does not fit into its run, by its labels: its number is taken, what it
// needs is not there or too much, or another run has begun.
var ErrLineage = errors.New("the version does not fit into its run")

// Labels returns the labels of a version on offer, and none if it has none or they cannot be read.
type Labels func(distfile.Entry) map[string]string

// Surplus returns those of entries that are not to be kept. As many as of the others are kept of those that are
// among beside, too.
func (s Settings) Surplus(entries, beside []distfile.Entry, of Labels) (versions []shard.Version) {
	left := map[bool]int{false: s.MaxVersions, true: s.MaxVersions}
	kept := make([]bool, len(entries))
	for i, e := range slices.Backward(entries) {
		group := slices.ContainsFunc(beside, e.Same)
		kept[i] = left[group] > 0 || slices.Contains(s.Pinned, e.Version)
		left[group]--
	}
	s.keepNeeded(entries, kept, of)
	for i, e := range entries {
		if !kept[i] {
			versions = append(versions, e.Version)
		}
	}
	return versions
}

// keepNeeded marks those of entries that the kept ones need.
func (s Settings) keepNeeded(entries []distfile.Entry, kept []bool, of Labels) {
	// Most versions have no number, and then no manifest of the others is read.
	needed := false
	for i, e := range entries {
		_, has := lineage.PlaceOf(of(e))
		needed = needed || !kept[i] && has
	}
	if !needed {
		return
	}
	run := placesOf(entries, of)
	for i := range slices.Clone(kept) {
		if !kept[i] {
			continue
		}
		chain := run.chain(of(entries[i]), i)
		for _, n := range chain[:min(len(chain), s.keptChain()-1)] {
			kept[n] = true
		}
	}
}

// Admit returns an error matching [ErrLineage] if a version with labels, newer than all that the directory dir
// holds, is of another run than that, would need a version that is not there, or make a chain that is too long.
func (s Settings) Admit(dir string, held []distfile.Entry, labels map[string]string, of Labels) error {
	if s.Run != "" && lineage.HasRun(labels) && labels[lineage.Run] != s.Run {
		return fmt.Errorf("%w: it is of run %q, and %s is at run %q; publish it elsewhere, or begin its run with "+
			"'shardcast-origin new-run', which retires the versions of all others",
			ErrLineage, labels[lineage.Run], dir, s.Run)
	}
	need, needs := lineage.NeedOf(labels)
	if !needs {
		return nil
	}
	chain := placesOf(held, of).chain(labels, len(held))
	switch {
	case len(chain) == 0:
		return fmt.Errorf("%w: by its label after it needs %s, which %s does not have; publish that first, or a full "+
			"version, without that label", ErrLineage, need, dir)
	case len(chain) >= s.maxChain():
		return fmt.Errorf("%w: by its label after it is number %d of a chain, and max-chain allows %d; "+
			"publish a full version, without that label, or begin a new run",
			ErrLineage, len(chain)+1, s.maxChain())
	}
	return nil
}

// places has the versions of a directory by their labels.
type places struct {
	labels []map[string]string     // of each version, ascending
	at     map[lineage.Place][]int // the versions that have a place, ascending
}

func placesOf(entries []distfile.Entry, of Labels) places {
	p := places{labels: make([]map[string]string, len(entries)), at: make(map[lineage.Place][]int)}
	for i, e := range entries {
		p.labels[i] = of(e)
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
