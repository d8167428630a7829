package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// errEnding is why a server that ends is not ready.
var errEnding = errors.New("this server is ending")

// health is whether the server is ready.
type health struct {
	catalog *catalog.Catalog
	ready   func() error    // nil is for always
	over    <-chan struct{} // closed when the server ends, or nil
}

// unready returns why the newest version anywhere is not served here, or nil.
func (h health) unready() error {
	switch {
	case isClosed(h.over):
		return errEnding
	case h.ready != nil:
		return h.ready()
	default:
		return nil
	}
}

// healthy answers that the server runs.
func (health) healthy(w http.ResponseWriter, r *http.Request, _ target) error {
	serveText(w, r, plainText, []byte(wire.Healthy))
	return nil
}

// readiness answers whether the newest version is served here, and on a line of its own that the
// release has expired: the server goes on with what it has, and readers decide about it.
func (h health) readiness(w http.ResponseWriter, r *http.Request, _ target) error {
	if err := h.unready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return nil
	}
	text := []byte(wire.Healthy)
	if list, err := h.catalog.Listed(); err == nil && list.ExpiredAt(time.Now()) {
		text = fmt.Appendf(text, "release expired at %s\n", list.Expires.Format(time.RFC3339))
	}
	serveText(w, r, plainText, text)
	return nil
}

// scrape is the endpoint of the metrics.
type scrape struct{ metrics *metrics.Metrics }

// answer answers with the metrics, to operators: scripts of other sites may not read them.
func (s scrape) answer(w http.ResponseWriter, r *http.Request, _ target) error {
	text, err := s.metrics.Text()
	if err != nil {
		return err
	}
	keepFromSites(w.Header())
	serveText(w, r, metrics.ContentType, text)
	return nil
}

// measuring finds the values of gauges.
type measuring struct {
	catalog *catalog.Catalog
	health  health
	members *swarm.Members
	tls     *TLS
	logger  *slog.Logger
}

func (m measuring) measure() metrics.Server {
	s := metrics.Server{Versions: -1, Newest: -1, Shards: -1, Used: -1, Free: -1}
	if u, err := m.catalog.Usage(); err == nil {
		s = metrics.Server{Versions: int64(len(u.Held)), Shards: u.Shards, Used: u.Bytes, Free: u.Free}
		if len(u.Held) > 0 {
			s.Newest = int64(u.Held[len(u.Held)-1].Version)
		}
	} else {
		m.logger.Error("data directory failed", "task", "measure", "err", err)
	}
	arriving, missing := m.catalog.Count()
	s.Arriving, s.Missing = int64(arriving), int64(missing)
	s.Ready = m.health.unready() == nil
	s.Peers, s.CertificateExpires = int64(m.members.Count()), m.tls.expires()
	if list, err := m.catalog.Listed(); err == nil {
		s.Release = &metrics.Signed{Seq: list.Seq, Issued: list.Issued, Expires: list.Expires}
	}
	return s
}

// probeSize in bytes is that of [wire.ProbeName].
const probeSize = 1_000_000

// newProbe returns an endpoint that answers, in the dialects that have it, with bytes that cannot be
// compressed, always the same, as fast as a shard would be sent.
func newProbe() endpoint {
	probe := sync.OnceValue(func() []byte {
		data := make([]byte, probeSize)
		_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
		return data
	})
	digest := sync.OnceValue(func() [sha256.Size]byte { return sha256.Sum256(probe()) })
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		if !t.dialect.probes() {
			return fs.ErrNotExist
		}
		serve(w, r, binary, digest(), bytes.NewReader(probe()))
		return nil
	}
}
