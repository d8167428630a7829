package remote

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

// ErrCutOff means that a proxy has ended a request that the server was holding.
var ErrCutOff = errors.New("cut off on the way")

var errBroken = errors.New("the connection broke")

// leastHeld is how long a request must have been held for its end to be a proxy's.
const leastHeld = 2 * time.Second

// Held is a request whose answer the server may hold.
type Held struct {
	most  time.Duration // that the answer can take if nothing is wrong
	begun time.Time
	sent  atomic.Int64 // since begun; 0 if it is not
}

// WatchHeld returns ctx for a request that the server may hold for a wait, and the Held of
// it. The timeout is how long the server may send nothing.
func WatchHeld(ctx context.Context, wait, timeout time.Duration) (context.Context, *Held) {
	ctx, cancel := context.WithCancelCause(ctx)
	h := &Held{most: wait + min(wire.Overdue, timeout/2), begun: time.Now()}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			// By itself the transport would ask again, at once, when a connection breaks
			// that has been used before.
			if h.dur() >= leastHeld {
				cancel(errBroken)
			}
		},
		WroteRequest: func(wrote httptrace.WroteRequestInfo) {
			if wrote.Err == nil {
				// Of a request that is made again although it has been given up, the first
				// time counts.
				h.sent.CompareAndSwap(0, max(1, int64(time.Since(h.begun))))
			}
		},
	}), h
}

// dur returns how long the request has been held since it was sent.
func (h *Held) dur() time.Duration {
	sent := time.Duration(h.sent.Load())
	if sent == 0 {
		return 0
	}
	return time.Since(h.begun) - sent
}

// Ended returns how long the request was held, and its error, which matches [ErrCutOff] if
// a proxy is to blame for it.
func (h *Held) Ended(err error) (dur time.Duration, _ error) {
	dur = h.dur()
	if err == nil || dur < leastHeld || dur > h.most {
		return dur, err
	}
	var code Status
	if errors.As(err, &code) {
		switch int(code) {
		case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
			return dur, Matching(err, ErrCutOff)
		}
		return dur, err
	}
	if errors.Is(err, ErrUnreachable) {
		return dur, Matching(err, ErrCutOff)
	}
	return dur, err
}
