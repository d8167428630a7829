package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
)

// maxWait in seconds is how long a request is held at most. A connection that is
// silent for longer is forgotten by some of those it goes through.
const maxWait = 300

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
	seconds, ok := preferredWait(r.Header.Values("Prefer"))
	// The end of a connection is noticed only after a request's body, if it has one.
	if !ok || h.over == nil || r.Method != http.MethodGet || r.ContentLength != 0 {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}

// heeded has the answer say that the client's preference was heeded (RFC 7240,
// section 3).
func heeded(w http.ResponseWriter, patience time.Duration) {
	w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(patience.Seconds())))
}

// preferredWait returns how many seconds, [maxWait] at most, the fields named
// Prefer allow for the answer, and false if they say nothing of it that can be
// understood. Of several the first one counts (RFC 7240, section 2).
func preferredWait(fields []string) (seconds int, ok bool) {
	for _, field := range fields {
		for field != "" {
			var preference string
			preference, field = cutUnquoted(field, ',')
			preference, _ = cutUnquoted(preference, ';') // its parameters
			name, value, _ := strings.Cut(preference, "=")
			if strings.EqualFold(strings.Trim(name, " \t"), "wait") {
				return parseSeconds(strings.Trim(value, " \t"))
			}
		}
	}
	return 0, false
}

// cutUnquoted cuts s at the first separator that is in no quoted string (RFC 9110,
// section 5.6.4).
func cutUnquoted(s string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// parseSeconds reads digits, which may be quoted. A number that is too large for
// anything is one that is too large for us.
func parseSeconds(s string) (seconds int, ok bool) {
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		if s, ok = strings.CutSuffix(inner, `"`); !ok {
			return 0, false
		}
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		seconds = min(seconds*10+int(c-'0'), maxWait)
	}
	return seconds, s != ""
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
