package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
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

// answered is the error for an answer without the resource that was requested.
func answered(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fs.ErrNotExist
	case code/100 == 3:
		return fmt.Errorf("it redirects to %.200q, which is not followed", resp.Header.Get("Location"))
	default:
		after := resp.Header.Get("Retry-After")
		if after != "" && (code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests) {
			return &Busy{Err: Status(code), Wait: min(wire.RetryAfter(after), wire.MaxRetryAfter)}
		}
		return Status(code)
	}
}
