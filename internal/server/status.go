package server

import (
	"net/http"

	"github.com/shardcast/shardcast/internal/overview"
	"github.com/shardcast/shardcast/internal/status"
	"github.com/shardcast/shardcast/internal/wire"
)

// The paths of the status.
const (
	pagePath   = "/"
	statusPath = "/" + wire.StatusName
)

// Status is the part of a server's status that the server cannot see.
type Status struct {
	// Role is origin or middle, and Build the version of the program.
	Role, Build string

	// Upstreams returns the state of each upstream, in the order of the metrics; the page
	// adds the counted bytes. Nil means no upstreams.
	Upstreams func() []status.Upstream
}

// newOverview returns what the status of a server shows, or nil if the options show none.
func newOverview(opts Options, health health) *overview.Overview {
	if opts.Status == nil {
		return nil
	}
	o := overview.Options{
		Role: opts.Status.Role, Build: opts.Status.Build, Catalog: opts.Catalog, Metrics: opts.Metrics,
		Unready: health.unready, Upstreams: opts.Status.Upstreams,
	}
	if opts.Members != nil {
		o.Peers = opts.Members.Count
	}
	return overview.New(o)
}

// statusPage is the endpoint of the status.
type statusPage struct{ overview *overview.Overview }

// answer answers with the page, or with the JSON, to operators: scripts of other sites may
// not read it, and no cache may keep it.
func (p statusPage) answer(w http.ResponseWriter, r *http.Request, _ target) error {
	seen, err := p.overview.Look(r.Context())
	if err != nil {
		return err
	}
	header := w.Header()
	keepFromSites(header)
	header.Set("Cache-Control", noStore)
	header.Set("Referrer-Policy", "no-referrer")
	if r.URL.Path == statusPath {
		serveText(w, r, "application/json", seen.JSON)
		return nil
	}
	header.Set("Content-Security-Policy", status.Policy())
	serveText(w, r, "text/html; charset=utf-8", seen.Page)
	return nil
}
