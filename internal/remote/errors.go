package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

// Errors of requests.
var (
	// ErrUnreachable means that a server does not answer.
	ErrUnreachable = errors.New("no server reachable")

	// ErrSilent means that a server has sent nothing for the time-out.
	ErrSilent = errors.New("sent nothing")

	errDrip = errors.New("sent next to nothing")
)

// Matching returns err as an error that matches kind, too, without naming it in its text.
func Matching(err, kind error) error { return matching{err, kind} }

type matching struct {
	error

	kind error
}

// Unwrap returns the error that carries the text.
func (e matching) Unwrap() error { return e.error }

// Is reports whether target is the kind.
func (e matching) Is(target error) bool { return target == e.kind }

// A Status is an answer that says no more than its code.
type Status int

// Codes that callers tell apart.
const (
	Conflict      Status = http.StatusConflict
	Unsatisfiable Status = http.StatusRequestedRangeNotSatisfiable
)

// Error names the code.
func (s Status) Error() string {
	return fmt.Sprintf("it answers %d %s", int(s), http.StatusText(int(s)))
}

// Busy is an answer that says to come again after a while.
type Busy struct {
	Err error

	// Wait is how long to wait, from 0 to 10 minutes.
	Wait time.Duration
}

// Error returns the text of Err.
func (e *Busy) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Busy) Unwrap() error { return e.Err }

// drained in bytes is read of an answer that is an error, so that its connection can be
// used again.
const drained = 4 << 10

// ErrGone is the error for 410: the resource was withdrawn. It matches [fs.ErrNotExist].
var ErrGone = fmt.Errorf("withdrawn: %w", fs.ErrNotExist)

// answered is the error for an answer without the resource that was requested.
func answered(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, drained))
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound:
		return fs.ErrNotExist
	case code == http.StatusGone:
		return ErrGone
	case code/100 == 3:
		return redirected(resp)
	case code == http.StatusBadRequest && resp.Request.URL.Scheme == "http" && wantsTLS(text):
		return Matching(speaksTLS(resp.Request.URL.Host), Status(code))
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		if kind, _, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), " "); strings.EqualFold(kind, "Bearer") {
			return fmt.Errorf("%w: give a token that %s knows by --token-file FILE", Status(code),
				resp.Request.URL.Host)
		}
		return fmt.Errorf("%w: give credentials for %s by --netrc FILE", Status(code), resp.Request.URL.Host)
	case code == http.StatusMisdirectedRequest:
		name := resp.Request.URL.Hostname()
		return fmt.Errorf("%w, it does not go by the name %s: start it with --allow-host %s, or give its address",
			Status(code), name, name)
	case code == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: give the proxy's credentials in HTTP_PROXY or HTTPS_PROXY, as http://USER:PASSWORD@HOST",
			Status(code))
	default:
		after := resp.Header.Get("Retry-After")
		if after != "" && (code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests) {
			return &Busy{Err: Status(code), Wait: min(wire.RetryAfter(after), wire.MaxRetryAfter)}
		}
		return Status(code)
	}
}

// redirected is the error for an answer that names another place.
func redirected(resp *http.Response) error {
	from := resp.Request.URL
	at, err := resp.Location()
	if err == nil && from.Scheme == "http" && at.Scheme == "https" && at.Hostname() == from.Hostname() {
		return speaksTLS(at.Host)
	}
	return fmt.Errorf("it redirects to %.200q, and redirects are not followed", resp.Header.Get("Location"))
}

// wantsTLS reports whether a server's text for people says that it was asked without TLS, as
// those of Go, nginx and Apache do.
func wantsTLS(text []byte) bool {
	return bytes.Contains(text, []byte("HTTPS")) || bytes.Contains(text, []byte("SSL-enabled"))
}
