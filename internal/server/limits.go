package server

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/shardcast/shardcast/internal/bucket"
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
			conns.HoldLittle(r, unsentInCrowd)
		}
		if len(a.Buckets) > 0 {
			w = &paced{ResponseWriter: w, ctx: r.Context(), buckets: a.Buckets}
		}
		return next(w, r, t)
	}
}

// unsentInCrowd in bytes bounds what the kernel has not sent of an answer in a crowd. A thousand readers that stand
// still would have it hold 2 GB, at which Linux slows down every connection of the machine to some 100 kB/s
// (tcp_mem, see tcp(7)).
const unsentInCrowd = 16 << 10

// mostAtOnce in bytes is what is sent of a file before its reader waits for the next turn: each
// turn costs the processor some wake-ups.
const mostAtOnce = 256 << 10

// paced sends the bytes of an answer as buckets let it, until ctx ends. The kernel sends files
// by itself.
type paced struct {
	http.ResponseWriter

	ctx     context.Context //nolint:containedctx // of the request, whose end ends the waiting
	buckets []*bucket.Bucket
}

// Unwrap returns the writer below, for [http.ResponseController].
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// take waits for some of the next bytes, and returns how many.
func (p *paced) take(n int64) (int64, error) {
	n = min(n, mostAtOnce)
	for _, b := range p.buckets {
		n = min(n, int64(b.Burst()))
	}
	for _, b := range p.buckets {
		if err := b.Take(p.ctx, int(n)); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Write sends b.
func (p *paced) Write(b []byte) (sent int, err error) {
	for len(b) > 0 && err == nil {
		var n int64
		if n, err = p.take(int64(len(b))); err != nil {
			break
		}
		var m int
		m, err = p.ResponseWriter.Write(b[:n])
		sent, b = sent+m, b[m:]
	}
	return sent, err
}

// ReadFrom sends what src has.
func (p *paced) ReadFrom(src io.Reader) (sent int64, err error) {
	content, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{p}, src)
	}
	for content.N > 0 {
		n, err := p.take(content.N)
		if err != nil {
			return sent, err
		}
		n, err = io.CopyN(p.ResponseWriter, content.R, n)
		sent, content.N = sent+n, content.N-n
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
