package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
)

// blake3Wait is how long a list in [Dialect03] waits for the BLAKE3 of versions that have none yet: a
// gigabyte takes a few seconds, once.
const blake3Wait = 5 * time.Second

// hashing has the BLAKE3 of versions computed in the background, for programs of the Python package
// 0.3, which ask for it: most servers meet none, and publish without it.
type hashing struct {
	catalog *catalog.Catalog
	over    <-chan struct{} // nil where nothing runs in the background
	logger  *slog.Logger

	wanted chan struct{} // of capacity 1
	ended  signal.Signal // of a look for such versions
}

func newHashing(opts Options, over <-chan struct{}) *hashing {
	return &hashing{catalog: opts.Catalog, over: over, logger: opts.Logger, wanted: make(chan struct{}, 1)}
}

// want has the digests computed that are missing, and those of versions that come in the next week.
func (h *hashing) want() {
	if err := h.catalog.WantBLAKE3(); err != nil {
		h.logger.Debug("wish for BLAKE3 not noted", "err", err)
	}
	select {
	case h.wanted <- struct{}{}:
	default: // it is noted already
	}
}

// await is [hashing.want], and waits a while for the digests.
func (h *hashing) await(ctx context.Context) {
	ended := h.ended.Wait()
	h.want()
	if h.over == nil {
		return
	}
	timer := time.NewTimer(blake3Wait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	case <-h.over:
	}
}

// follow computes what is wanted until ctx ends, one version at a time, and has look see each.
func (h *hashing) follow(ctx context.Context, look func() error) {
	failed := make(map[shard.Version]bool)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wanted:
		}
		missing, err := h.catalog.WithoutBLAKE3()
		if err != nil {
			h.logger.Debug("versions without BLAKE3 not found", "err", err)
		}
		for _, o := range missing {
			v := o.Entry.Version
			if failed[v] {
				continue
			}
			start := time.Now()
			switch err := h.catalog.AddBLAKE3(ctx, o); {
			case ctx.Err() != nil:
				return
			case errors.Is(err, fs.ErrNotExist): // it has just been retired
			case err != nil:
				failed[v] = true
				h.logger.Error("BLAKE3 not computed", "version", v.String(), "err", err)
			default:
				h.logger.Info("BLAKE3 computed", "version", v.String(), "dur", time.Since(start))
				_ = look() // which says itself what is wrong
			}
		}
		h.ended.Raise()
	}
}

// blake3 answers with the BLAKE3 of a version, if it is known, and has it computed otherwise.
func (h *hashing) blake3(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := h.catalog.Find(t.version)
	if err != nil {
		return err
	}
	defer v.Close()
	h.want()
	digest, err := h.catalog.BLAKE3(t.version)
	if err != nil {
		return err
	}
	if tier, ok := v.Arriving(); ok {
		arrives(w, tier)
	}
	serveText(w, r, plainText, shard.BLAKE3Text(digest))
	return nil
}
