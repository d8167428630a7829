package server

import (
	"net/http"

	"github.com/shardcast/shardcast/internal/wire"
)

// Names of header fields for a page of another site (https://fetch.spec.whatwg.org).
const (
	// exposed are those of an answer that it may read.
	exposed = "ETag, Content-Range, Content-Length, Accept-Ranges, Retry-After, Preference-Applied, " + wire.TierHeader

	// allowed are those that it may send. All others of ours a page may send anyway.
	allowed = "Range, If-None-Match, Prefer"
)

// preflightAge in seconds is how long a browser need not ask again.
const preflightAge = "86400"

// preflight answers a browser that asks what a page may do.
func preflight(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "GET, HEAD")
	header.Set("Access-Control-Allow-Headers", allowed)
	header.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
}
