package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// The labels of a lineage: a version needs the newest older one of the same run whose number
// is its after.
const (
	runLabel    = "run"
	numberLabel = "number"
	afterLabel  = "after"
)

// ErrChain means that a version would need more others than the [Settings] allow.
var ErrChain = errors.New("the chain of versions would be too long")

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
		needed = needed || !kept[i] && r.labels(e)[numberLabel] != ""
	}
	if !needed {
		return
	}
	line := r.lineage(entries)
	for i := range slices.Clone(kept) {
		if !kept[i] {
			continue
		}
		chain := line.chain(r.labels(entries[i]), i)
		for _, n := range chain[:min(len(chain), r.settings.maxChain()-1)] {
			kept[n] = true
		}
	}
}

// check returns an error matching [ErrChain] if a version with labels, newer than all of
// entries, would make a chain that is too long.
func (r *retention) check(entries []distfile.Entry, labels map[string]string) error {
	if labels[afterLabel] == "" {
		return nil
	}
	chain := r.lineage(entries).chain(labels, len(entries))
	if r.err == nil && len(chain) >= r.settings.maxChain() {
		return fmt.Errorf("%w: by its label after it needs %d others, and max-chain allows %d with itself; "+
			"publish a full version, without that label, or begin a new run",
			ErrChain, len(chain), r.settings.maxChain())
	}
	return r.err
}

// A lineage has the versions of a directory by their labels.
type lineage struct {
	labels []map[string]string // of each version, ascending
	at     map[place][]int     // the versions that have a place, ascending
}

// place is the place of a version in its run.
type place struct{ run, number string }

func (r *retention) lineage(entries []distfile.Entry) lineage {
	l := lineage{labels: make([]map[string]string, len(entries)), at: make(map[place][]int)}
	for i, e := range entries {
		l.labels[i] = r.labels(e)
		if number := l.labels[i][numberLabel]; number != "" {
			p := place{l.labels[i][runLabel], number}
			l.at[p] = append(l.at[p], i)
		}
	}
	return l
}

// chain returns the versions that one with labels needs, which is older than version i alone:
// the next one first.
func (l lineage) chain(labels map[string]string, i int) (chain []int) {
	for labels[afterLabel] != "" {
		older := l.at[place{labels[runLabel], labels[afterLabel]}]
		n, _ := slices.BinarySearch(older, i)
		if n == 0 {
			break
		}
		i = older[n-1]
		chain = append(chain, i)
		labels = l.labels[i]
	}
	return chain
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

// Pin has the version v, which is on offer, kept beside the newest ones. The error matches
// [shard.ErrNoVersion] if it is not.
func (s *Store) Pin(ctx context.Context, v shard.Version) error {
	return s.pin(ctx, func(settings *Settings) error {
		offered, err := s.Distribution()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(offered, func(e distfile.Entry) bool { return e.Version == v }) {
			return fmt.Errorf("pin %s: %w in %s", v, shard.ErrNoVersion, s.dir)
		}
		if at, found := slices.BinarySearch(settings.Pinned, v); !found {
			settings.Pinned = slices.Insert(settings.Pinned, at, v)
		}
		return nil
	})
}

// Unpin ends a [Store.Pin]. A version that is kept for no other reason is retired by the next
// [Writer.Publish] or [Writer.Trim]. The error matches [shard.ErrNoVersion] if v is not
// pinned.
func (s *Store) Unpin(ctx context.Context, v shard.Version) error {
	return s.pin(ctx, func(settings *Settings) error {
		at, found := slices.BinarySearch(settings.Pinned, v)
		if !found {
			return fmt.Errorf("unpin %s: %w among those that are pinned in %s", v, shard.ErrNoVersion, s.dir)
		}
		settings.Pinned = slices.Delete(settings.Pinned, at, at+1)
		return nil
	})
}

// pin has edit change the pinned versions, while none is retired.
func (s *Store) pin(ctx context.Context, edit func(*Settings) error) error {
	var refused error
	_, _, err := s.Change(ctx, func(settings *Settings) { refused = edit(settings) })
	return cmp.Or(refused, err)
}
