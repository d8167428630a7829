package store

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/shard"
)

// Labels returns those of a version on offer. They do not change, so each manifest is read once. The error
// matches [fs.ErrNotExist] or [shard.ErrManifest] if it has no manifest that tells them.
func (s *Store) Labels(e distfile.Entry) (map[string]string, error) {
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

// A labelReader reads the labels of versions, from which it is decided which of them stay.
type labelReader struct {
	store *Store
	err   error // of a manifest that cannot be read now: then nothing is decided
}

// of returns the labels of a version on offer, and none of one without a manifest.
func (r *labelReader) of(e distfile.Entry) map[string]string {
	labels, err := r.store.Labels(e)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, shard.ErrManifest) {
		r.err = errors.Join(r.err, fmt.Errorf("data directory %s: labels of %s: %w", r.store.dir, e.Version, err))
	}
	return labels
}

// surplus returns those of entries, which are ascending, that the directory is not to keep.
func (s *Store) surplus(settings policy.Settings, entries []distfile.Entry) ([]shard.Version, error) {
	r := &labelReader{store: s}
	versions := settings.Surplus(entries, s.beside(), r.of)
	return versions, r.err
}
