package server

import (
	"net/http"

	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/slots"
)

// readerOf returns the sender of a request, as slots know it.
func readerOf(r *http.Request) slots.Reader {
	return slots.Reader{Remote: r.RemoteAddr, Conn: conns.Of(r)}
}

// limit has next answer within the limits of a gate. A GET of a shard beyond the number that may
// be under way gets [slots.ErrBusy] before anything of the shard is opened; of probes there are
// never too many.
func limit(g *slots.Gate, next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		if r.Method != http.MethodGet {
			return next(w, r, t)
		}
		a, err := g.Enter(r.Context(), readerOf(r), t.kind.isShard())
		if err != nil {
			return err
		}
		defer a.Leave()
		if a.Crowded {
			conns.HoldLittle(r)
		}
		t.buckets = a.Buckets
		return next(w, r, t)
	}
}
