package server

import (
	"errors"
	"io/fs"
	"net/http"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/wire"
)

// errEnding is why a server that has been told to end is not ready.
var errEnding = errors.New("this server is ending")

// unready returns why the newest version that there is is not served here, or nil.
func (h *handler) unready() error {
	switch {
	case isClosed(h.over):
		return errEnding
	case h.ready != nil:
		return h.ready()
	default:
		return nil
	}
}

// readiness answers whether the newest version is served here.
func (h *handler) readiness(w http.ResponseWriter, r *http.Request) {
	if err := h.unready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	serveText(w, r, plainText, []byte(wire.Healthy))
}

// scrape answers with the metrics. They are for operators, and not for the pages of
// other sites.
func (h *handler) scrape(w http.ResponseWriter, r *http.Request) error {
	if h.metrics == nil {
		return fs.ErrNotExist
	}
	text, err := h.metrics.Text()
	if err != nil {
		return err
	}
	w.Header().Del("Access-Control-Allow-Origin")
	serveText(w, r, metrics.ContentType, text)
	return nil
}

// measure returns what there is here now.
func (h *handler) measure() metrics.Server {
	s := metrics.Server{Versions: -1, Newest: -1, Shards: -1, Used: -1, Free: -1}
	if u, err := h.store.Usage(); err == nil {
		s = metrics.Server{Versions: int64(len(u.Held)), Shards: u.Shards, Used: u.Bytes, Free: u.Free}
		if len(u.Held) > 0 {
			s.Newest = int64(u.Held[len(u.Held)-1].Version)
		}
	} else {
		h.logger.Error("data directory failed", "task", "measure", "err", err)
	}
	arriving, missing := h.board.Count()
	s.Arriving, s.Missing = int64(arriving), int64(missing)
	s.Ready = h.unready() == nil
	s.Peers = int64(h.members.Count())
	return s
}
