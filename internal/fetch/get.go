package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"
)

// errSilent is why a request was given up.
var errSilent = errors.New("sent nothing")

// drained in bytes is what is read of an answer that nobody wants, for its
// connection to be used again.
const drained = 4 << 10

// body is what an upstream sends, with an end to its silences.
type body struct {
	io.ReadCloser

	ctx     context.Context //nolint:containedctx // a request's life, as in http.Request
	timer   *time.Timer
	timeout time.Duration
	cancel  context.CancelCauseFunc
}

// get asks u for a path below its URL. The error matches [fs.ErrNotExist] if u
// says that there is no such thing, and [ErrUnreachable] if u does not answer. The
// caller closes the body.
func (p *Pool) get(ctx context.Context, u *upstream, path ...string) (*body, error) {
	target := u.url.JoinPath(path...)
	ctx, cancel := context.WithCancelCause(ctx)
	b := &body{ctx: ctx, cancel: cancel, timeout: p.opts.Timeout}
	b.timer = time.AfterFunc(b.timeout, func() { cancel(fmt.Errorf("%w for %v", errSilent, b.timeout)) })
	if err := p.open(b, target.String()); err != nil {
		b.stop()
		return nil, fmt.Errorf("%s: %w", target.Redacted(), err)
	}
	return b, nil
}

// open makes the request and gives b what is answered.
func (p *Pool) open(b *body, target string) error {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "shardcast")
	resp, err := p.client.Do(req)
	if err != nil {
		return unanswered(b.cause(errors.Unwrap(err)))
	}
	if resp.StatusCode == http.StatusOK {
		b.ReadCloser = resp.Body
		return nil
	}
	_, _ = io.CopyN(io.Discard, resp.Body, drained)
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return fs.ErrNotExist
	case resp.StatusCode/100 == 3:
		return fmt.Errorf("it redirects to %.200q, which is not followed", resp.Header.Get("Location"))
	default:
		return fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
}

// Read reads on, and fails when nothing has come for the time-out.
func (b *body) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	if n > 0 {
		b.timer.Reset(b.timeout)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.cause(err)
	}
	return n, err
}

// Close ends the request.
func (b *body) Close() error {
	defer b.stop()
	return b.ReadCloser.Close()
}

func (b *body) stop() {
	b.timer.Stop()
	b.cancel(nil)
}

// cause is what ended the request, of which err is a consequence.
func (b *body) cause(err error) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	return err
}
