package server

import (
	"net/http"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// holdUntil has requests be held, until over is closed.
func (h *handler) holdUntil(over <-chan struct{}) {
	h.over = over
	for _, l := range h.listings {
		l.over = over
	}
}

// offered returns what a request for the listing is answered with, now or, where the client prefers that, when it says something that the client does not
// know (RFC 7240, section 4.3). The header says whether that preference was heeded,
// which it was also when there was no need to wait.
func (h *handler) offered(w http.ResponseWriter, r *http.Request, l *listing) (*offer, error) {
	patience, ok := h.mayHold(r)
	if !ok {
		return l.look()
	}
	known := r.Header.Get("If-None-Match")
	if patience == 0 {
		known = ""
	}
	// Who has gone gets an answer too, for it may only have said that it asks for
	// nothing more, and what no answer is would be taken for an empty one.
	o, err := l.await(r.Context(), known, patience, func() {
		h.logger.Debug("request held", "path", r.URL.Path, "client", r.RemoteAddr, "wait", patience)
	})
	if err != nil {
		return nil, err
	}
	heeded(w, patience)
	if isClosed(h.over) {
		w.Header().Set("Connection", "close")
	}
	return o, nil
}

// mayHold returns how long the client prefers to wait for an answer, and whether that
// can be heeded.
func (h *handler) mayHold(r *http.Request) (patience time.Duration, ok bool) {
	wait, ok := wire.PreferredWait(r.Header.Values("Prefer"))
	// The end of a connection is noticed only after a request's body, if it has one.
	if !ok || h.over == nil || r.Method != http.MethodGet || r.ContentLength != 0 {
		return 0, false
	}
	return wait, true
}

// heeded has the answer say that the client's preference was heeded (RFC 7240,
// section 3).
func heeded(w http.ResponseWriter, patience time.Duration) {
	w.Header().Set("Preference-Applied", wire.PreferWait(patience))
}

// listsTag reports whether the entity tag of digest stands in the list, weak or not
// (RFC 9110, sections 8.8.3.2 and 13.1.2). Nothing stands in "*", which means any
// text there may be, so that none is worth waiting for.
func listsTag(list string, digest shard.Digest) bool {
	for {
		list = strings.TrimPrefix(strings.TrimLeft(list, " \t,"), "W/")
		opaque, ok := strings.CutPrefix(list, `"`)
		tag, rest, closed := strings.Cut(opaque, `"`)
		if !ok || !closed {
			return false
		}
		if tag == digest.String() {
			return true
		}
		list = rest
	}
}
