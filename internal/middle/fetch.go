package middle

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// A fetcher brings single versions into the data directory, and lists them on the board
// while they arrive. It may fetch several at the same time.
type fetcher struct {
	dir       directory
	board     *relay.Board
	pool      *fetch.Pool
	announced *announced
	metrics   *metrics.Metrics
	logger    *slog.Logger
}

// fetch fetches e into its draft and publishes it. On an error the draft remains, for the
// next fetch of e. Headway learns whether it gets on.
func (f *fetcher) fetch(ctx context.Context, e distfile.Entry, headway *fetch.Headway) error {
	start := time.Now()
	var to arrival             // for the manifest that came last
	var written fetch.Manifest // likewise
	defer func() { to.end() }()
	manifest, went, err := f.pool.Fetch(ctx, fetch.Task{
		Entry: e, BLAKE3: f.dir.store.WantsBLAKE3(), Headway: headway,
		Audience: func() fetch.Audience { return to.version },
		Rebuild:  func() fetch.Rebuilder { return f.rebuilder(to) },
		Open: func(ctx context.Context, m fetch.Manifest) (fetch.Sink, error) {
			before := to
			var err error
			if to, err = f.open(ctx, e.Version, m); err != nil {
				to = before
				return nil, err
			}
			written = m
			before.end()
			return to, nil
		},
	})
	if err != nil {
		return err
	}
	if err := to.synced(); err != nil {
		return local{err}
	}
	f.pool.Know(e.Version, manifest)
	if written.Text != nil {
		computed := manifest.BLAKE3
		manifest = written.Stated // whose bytes are in the draft, and stay as they are
		manifest.BLAKE3 = computed
	}
	publish := func(w *store.Writer) error {
		if f.dir.store.Holds(e.Version) {
			if err := w.Retire("the upstreams list another file by its number", e.Version); err != nil {
				return err
			}
		}
		return w.Publish(to.draft, manifest)
	}
	if err := f.dir.change(ctx, publish); err != nil {
		return local{err}
	}
	f.board.Unlist(e.Version)
	if dur, ok := f.announced.since(e.Version, manifest.Digest, e.Digest); ok {
		f.metrics.Completed(dur)
	}
	f.logger.Info("fetched", "version", e.Version.String(), "bytes", manifest.Size, "shards", len(manifest.Shards),
		"resumed", went.Resumed, "wasted", went.Wasted, "peers", went.Peers,
		"rebuilt", went.Rebuilt, "delta", went.Delta, "dur", time.Since(start))
	return nil
}

// open begins the arrival of version v by its manifest, and lists it. Of a plain version no
// shard is known to be right before all have come, so no reader gets to see it.
func (f *fetcher) open(ctx context.Context, v shard.Version, m fetch.Manifest) (arrival, error) {
	manifest := m.Stated
	var known []held
	if !isPlain(manifest) {
		known = f.dir.known()
	}
	draft, err := f.draft(v, manifest, known)
	if err != nil {
		return arrival{}, local{err}
	}
	listed := distfile.Entry{Version: v, Digest: manifest.Digest} // the SHA-256, also if the upstream lists BLAKE3
	var files *tree.Tree
	if manifest.Files != nil {
		keep := func() (shard.Writer, error) { return draft.CreateFile(shard.FilesName) }
		if files, err = f.pool.Files(ctx, m, keep); err != nil {
			return arrival{}, err
		}
	}
	if manifest.BLAKE3, err = f.blake3(ctx, m, draft); err != nil {
		return arrival{}, local{err}
	}
	board := f.board
	if isPlain(manifest) || f.dir.store.Holds(v) { // readers get the file that is held until this one is here
		board = relay.NewBoard() // without readers
	}
	// On the disk before the list: if this process is killed, the next one lists the version
	// again for the readers that have seen it.
	if m.Text != nil {
		err = draft.Write(shard.ManifestName, m.Text)
	} else {
		err = draft.SetManifest(filled(manifest))
	}
	if err != nil {
		return arrival{}, local{err}
	}
	arriving := board.Begin(listed, manifest, m.Tier, relay.Files(draft.Read))
	if m.Text != nil {
		arriving.SetText(m.Text)
	}
	f.dir.expect(arriving)
	board.List(listed)
	f.logger.Info("arriving", "version", v.String(), "bytes", manifest.Size,
		"shards", len(manifest.Shards), "tier", m.Tier)
	return arrival{
		draft: draft, tree: files, version: arriving, syncs: newSyncs(), known: f.sources(v, manifest, files, known),
	}, nil
}

// blake3Patience is how long the arrival of a version waits for its BLAKE3.
const blake3Patience = 2 * time.Second

// blake3 returns the BLAKE3 that the server of m states, and keeps it in the draft, where readers want
// one: they can list the version then while it comes. The bytes decide in the end.
func (f *fetcher) blake3(ctx context.Context, m fetch.Manifest, draft *store.Draft) (shard.Digest, error) {
	if isPlain(m.Stated) || !f.dir.store.WantsBLAKE3() {
		return shard.Digest{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, blake3Patience)
	defer cancel()
	digest, err := f.pool.BLAKE3(ctx, m)
	if err != nil {
		f.logger.Debug("BLAKE3 not known upstream", "version", m.Entry.Version.String(), "err", err)
		return shard.Digest{}, nil
	}
	return digest, draft.Write(shard.BLAKE3Name, shard.BLAKE3Text(digest))
}

// draft returns the draft of v, with the shards that known versions have. A draft of another
// file is discarded first.
func (f *fetcher) draft(v shard.Version, manifest shard.Manifest, known []held) (*store.Draft, error) {
	draft, err := f.dir.store.Draft(v)
	if err != nil {
		return nil, err
	}
	if old, err := draft.Manifest(); err == nil && old.Digest != manifest.Digest {
		if err := draft.Discard(); err != nil {
			return nil, err
		}
		if draft, err = f.dir.store.Draft(v); err != nil {
			return nil, err
		}
	}
	link(draft, manifest, known)
	return draft, draft.Need(manifest.Size)
}

// local is an error of the data directory.
type local struct{ error }

func (e local) Unwrap() error { return e.error }

// isFinal reports whether err will stay, so that readers are better served by another
// server. After trouble of the upstreams alone they wait here.
func isFinal(err error) bool {
	return errors.Is(err, fetch.ErrIntegrity) || errors.Is(err, fetch.ErrNoVersion) ||
		errors.As(err, new(local)) || errors.As(err, new(*fs.PathError))
}
