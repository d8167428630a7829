package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/shardcast/shardcast/internal/credential"
)

// Tokens say who may read. A nil one admits all that reach the server.
type Tokens struct {
	source *credential.Source[credential.Readers]
}

// NewTokens reads a file of tokens, see [credential.NewReaders], and again when it changes. A
// new text that is of no use leaves the tokens before in use, with a warning.
func NewTokens(file string, logger *slog.Logger) (*Tokens, error) {
	source, err := credential.NewReaders(file, func(_ credential.Readers, err error) {
		if err != nil {
			logger.Warn("new tokens are of no use, and those before stay", "file", file, "err", err)
			return
		}
		logger.Info("tokens reloaded", "file", file)
	})
	if err != nil {
		return nil, err
	}
	return &Tokens{source}, nil
}

// Reload reads the file at once.
func (t *Tokens) Reload() {
	if t != nil {
		t.source.Reload()
	}
}

// follow looks at the file until ctx ends.
func (t *Tokens) follow(ctx context.Context) {
	if t != nil {
		t.source.Follow(ctx)
	}
}

// bearer returns the token in the header of a request (RFC 6750, section 2.1).
func bearer(header http.Header) (token string, ok bool) {
	fields := header["Authorization"]
	if len(fields) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	return strings.TrimLeft(token, " "), strings.EqualFold(scheme, "Bearer")
}

// An asker is the sender of a request, as far as its token says. The zero value has none.
type asker struct {
	reader credential.Reader
	showed bool // a token
	known  bool // the token is one of the server's
}

// asker returns the sender of a request with a header.
func (t *Tokens) asker(header http.Header) (a asker) {
	if t == nil {
		return asker{}
	}
	var token string
	if token, a.showed = bearer(header); a.showed {
		a.reader, a.known = t.source.Value().Find(token)
	}
	return a
}

// Values of WWW-Authenticate (RFC 6750, section 3).
const (
	challenge   = `Bearer realm="shardcast"`
	wrongToken  = challenge + `, error="invalid_token"`
	scopeNeeded = challenge + `, error="insufficient_scope"`
)

// admitting admits readers with a token to everything but /healthz, and administrators to the
// inside of the server.
type admitting struct{ next http.Handler }

func (h admitting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := targetOf(r)
	refuse := func(status int, why, text string) {
		w.Header().Set("WWW-Authenticate", why)
		w.Header().Set("Cache-Control", noStore)
		http.Error(w, text, status)
	}
	switch a := t.asker; {
	case t.kind == kindHealth:
		h.next.ServeHTTP(w, r)
	case !a.showed:
		refuse(http.StatusUnauthorized, challenge,
			"this server wants a token: give --token-file, or curl --oauth2-bearer TOKEN")
	case !a.known:
		refuse(http.StatusUnauthorized, wrongToken, "this server does not know that token, or no longer does")
	case t.kind.isInside() && !a.reader.Admin:
		refuse(http.StatusForbidden, scopeNeeded,
			"only a token with the word admin on its line of --read-tokens may see this")
	default:
		h.next.ServeHTTP(w, r)
	}
}

// isInside reports whether a request of the kind is one for the inside of the server.
func (k kind) isInside() bool { return k == kindStatus || k == kindMetrics || k == kindReady }
