package middle

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// mostLabels bounds the manifests that one look asks for, and the labels that are known: a server
// may list 10,000 versions.
const mostLabels = 1000

// needs finds the older versions that held ones need by their labels, which the directory would
// have kept beside these. It asks upstreams, so it has a goroutine of its own.
type needs struct {
	store    *store.Store
	offers   func() ([]distfile.Entry, error)
	manifest func(ctx context.Context, e distfile.Entry) (shard.Manifest, error)

	changed chan struct{}         // offers or held versions have
	found   chan []distfile.Entry // the needed ones

	known map[distfile.Entry]map[string]string // labels of versions that are not held; they do not change
}

func newNeeds(m *Middle) *needs {
	return &needs{
		store: m.dir.store, manifest: m.pool.Manifest,
		offers: func() ([]distfile.Entry, error) {
			held, err := m.dir.store.Distribution()
			return m.count(held).Entries, err
		},
		changed: make(chan struct{}, 1), found: make(chan []distfile.Entry),
		known: make(map[distfile.Entry]map[string]string),
	}
}

// look has run look again.
func (n *needs) look() {
	select {
	case n.changed <- struct{}{}:
	default: // it is about to
	}
}

// run sends the needed versions to found after each change, until ctx ends.
func (n *needs) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
		needed := n.needed(ctx)
		select {
		case <-ctx.Done():
			return
		case n.found <- needed:
		}
	}
}

// needed returns the versions on offer that held ones need.
func (n *needs) needed(ctx context.Context) []distfile.Entry {
	offers, err := n.offers()
	settings, bad := n.store.Settings()
	if err != nil || bad != nil {
		return nil // the follower reports it
	}
	newest := offers[max(0, len(offers)-settings.MaxVersions):]
	asked := 0
	return settings.Needs(offers, func(e distfile.Entry) (map[string]string, bool) {
		labels, err := n.store.Labels(e)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return labels, err == nil
		}
		if slices.Contains(newest, e) {
			return nil, false // they are known when it has come
		}
		if labels, ok := n.known[e]; ok {
			return labels, true
		}
		if asked++; asked > mostLabels {
			return nil, false
		}
		m, err := n.manifest(ctx, e)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || errors.Is(err, fetch.ErrNoVersion)) {
			return nil, false
		}
		if len(n.known) >= mostLabels {
			clear(n.known)
		}
		n.known[e] = lineage.Labels(m.Labels) // of a version without a manifest none
		return n.known[e], true
	})
}
