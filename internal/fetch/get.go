package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// Why a request was given up.
var (
	errSilent = errors.New("sent nothing")
	errDrip   = errors.New("sent next to nothing")

	errRangeless = errors.New("does not know ranges")
)

const (
	// drained in bytes is what is read of an answer that nobody wants, for its
	// connection to be used again.
	drained = 4 << 10

	// floor in bytes per second is what counts as nothing, over the time-out.
	floor = 64

	// maxRetryAfter bounds how long a server can tell us to wait.
	maxRetryAfter = busyPatience
)

// body is what an upstream sends, with an end to its silences.
type body struct {
	io.ReadCloser

	from      int64 // the offset of its first byte in what was asked for
	size      int64 // of all that was asked for, of which it may be a part; -1 if not told
	header    http.Header
	empty     bool            // there is nothing, and none is sent
	unchanged bool            // what was asked for has the ETag that was asked with; nothing is sent
	ctx       context.Context //nolint:containedctx // a request's life, as in http.Request
	timer     *time.Timer
	timeout   time.Duration
	floor     float64      // see the constant
	came      atomic.Int64 // bytes since the timer was set
	cancel    context.CancelCauseFunc
	bucket    *bucket.Bucket // what is read is taken from it, or nil
	step      int            // the most that is read at once then
}

// request is what to ask an upstream for.
type request struct {
	path    []string          // below its URL
	digest  shard.Digest      // of the file, or the shard, or zero if it is not known
	want    disk.Range        // of it; zero is for all
	header  map[string]string // more of it than is always sent
	hold    time.Duration     // how long the answer may be held back
	timeout time.Duration     // for silences, in place of that of the options

	// trickles says that little may come, and pauses be as long as hold.
	trickles bool
}

// get makes the request r to u. What comes may begin before what is wanted: not all
// servers know ranges. The error matches [fs.ErrNotExist] if u says that there is
// no such thing, [ErrUnreachable] if u does not answer, and is a busy if u says
// when to come again. The caller closes the body.
func (p *Pool) get(ctx context.Context, u *upstream, r request) (*body, error) {
	target := u.url.JoinPath(r.path...)
	name := target.Redacted()
	if r.digest != (shard.Digest{}) {
		// For a cache on the way not to take this for another file of the same number.
		target.RawQuery = "digest=" + r.digest.String()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	b := &body{ctx: ctx, cancel: cancel, timeout: cmp.Or(r.timeout, p.opts.Timeout), floor: floor}
	silence := b.timeout + r.hold
	if r.trickles {
		b.timeout, b.floor = silence, 0
	}
	b.timer = time.AfterFunc(silence, func() {
		if came := b.came.Load(); came > 0 {
			cancel(fmt.Errorf("%w in %v: %d bytes", errDrip, silence, came))
		}
		cancel(fmt.Errorf("%w for %v", errSilent, silence))
	})
	if err := p.open(b, target.String(), r); err != nil {
		b.stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// open makes the request and gives b what is answered.
func (p *Pool) open(b *body, target string, r request) error {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "shardcast")
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.want.From > 0 || r.want.To > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.want.From, r.want.To-1))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return unanswered(b.cause(errors.Unwrap(err)))
	}
	b.size, b.header = resp.ContentLength, resp.Header
	switch {
	case resp.StatusCode == http.StatusPartialContent && r.want.To > 0:
		b.from, b.size, err = parseContentRange(resp.Header.Get("Content-Range"))
		if err == nil && b.from != r.want.From {
			err = fmt.Errorf("it sends from byte %d on instead of %d", b.from, r.want.From)
		}
	case resp.StatusCode == http.StatusNotModified && r.header["If-None-Match"] != "":
		b.unchanged = true
	case resp.StatusCode == http.StatusNoContent && r.trickles:
		b.empty = true
	case resp.StatusCode != http.StatusOK:
		_, _ = io.CopyN(io.Discard, resp.Body, drained)
		err = answered(resp)
	}
	if err != nil {
		_ = resp.Body.Close()
		return err
	}
	b.ReadCloser = resp.Body
	return nil
}

// parseContentRange reads "bytes 5-9/20" (RFC 9110, section 14.4), where the
// size may be *.
func parseContentRange(text string) (from, size int64, err error) {
	bounds, total, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, _, _ := strings.Cut(bounds, "-")
	from, err = strconv.ParseInt(first, 10, 64)
	size = -1
	if total != "*" {
		var bad error
		size, bad = strconv.ParseInt(total, 10, 64)
		err = cmp.Or(err, bad)
	}
	if err != nil || from < 0 {
		return 0, 0, fmt.Errorf("its Content-Range %.80q cannot be read", text)
	}
	return from, size, nil
}

// tierHeader is how many servers a version comes through while it arrives at a
// server: a small number, missing where the server holds all of it. In a request for
// a shard, who asks is that far from the origin himself.
const tierHeader = "Shardcast-Tier"

// tierOf reads the tier in the header of an answer.
func tierOf(header http.Header) int {
	tier, _ := strconv.ParseUint(header.Get(tierHeader), 10, 16)
	return int(tier)
}

// answered is the error for an answer that does not hold what was asked for.
func answered(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fs.ErrNotExist
	case code/100 == 3:
		return fmt.Errorf("it redirects to %.200q, which is not followed", resp.Header.Get("Location"))
	case code == http.StatusRequestedRangeNotSatisfiable:
		return wrong(fmt.Errorf("%w: it has fewer bytes", shard.ErrSize))
	default:
		var err error = status(code)
		if after := resp.Header.Get("Retry-After"); after != "" && (code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests) {
			return busy{error: err, wait: retryAfter(after)}
		}
		return err
	}
}

// status is an answer that says no more than its code.
type status int

// Error says what it says.
func (s status) Error() string {
	return fmt.Sprintf("it answers %d %s", int(s), http.StatusText(int(s)))
}

// retryAfter reads Retry-After, a number of seconds or a date (RFC 9110, section
// 10.2.3), and makes it a wait of up to ten minutes.
func retryAfter(text string) time.Duration {
	wait := time.Second
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// busy is an answer that says to come again after a while.
type busy struct {
	error

	wait time.Duration
	had  int // shards that it was sending us when it was asked
}

func (e busy) Unwrap() error { return e.error }

// Read reads on, and fails when nothing, or less than the floor, has come for the
// time-out.
func (b *body) Read(buf []byte) (int, error) {
	if b.bucket != nil {
		buf = buf[:min(len(buf), b.step)]
	}
	n, err := b.ReadCloser.Read(buf)
	if n > 0 && b.bucket != nil {
		b.timer.Stop() // this silence is ours
		if err := b.bucket.Take(b.ctx, n); err != nil {
			return n, err
		}
		b.timer.Reset(b.timeout)
	}
	if n > 0 && float64(b.came.Add(int64(n))) >= b.floor*b.timeout.Seconds() {
		b.came.Store(0)
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
