package server

import (
	"context"
	"net/http"

	"github.com/shardcast/shardcast/internal/conns"
)

// stays has next answer also a reader that has closed its side of the connection, and waits
// for the answer: for [http.Server] it has gone, and the context of its request has ended.
// One that has really gone is found out when something is sent to it.
func stays(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		conn := conns.Of(r)
		if conn == nil {
			return next(w, r, t)
		}
		ctx, leave := context.WithCancelCause(context.WithoutCancel(r.Context()))
		defer leave(nil)
		stop := context.AfterFunc(r.Context(), func() {
			if !conns.IsHalfClosed(conn) {
				leave(context.Cause(r.Context()))
			}
		})
		defer stop()
		return next(w, r.WithContext(ctx), t)
	}
}
