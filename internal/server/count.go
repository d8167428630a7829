package server

import (
	"cmp"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/overview"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// countedStep in bytes is the part of a shard that the kernel sends between two counts:
// small enough for the status page to see a slow reader's bytes while they go, and large
// enough to cost nothing: 2 GB to ten curls at once took 0.36 s of processor time with it,
// and 0.37 s with 4 MiB, the most that one call sends.
const countedStep = 256 << 10

// metricKinds are the kinds as the metrics have them.
var metricKinds = [kinds]metrics.Kind{
	kindOther: metrics.Other, kindDistribution: metrics.Distribution, kindManifest: metrics.Manifest,
	kindRelease: metrics.Release, kindSums: metrics.Sums, kindFiles: metrics.Files, kindStream: metrics.Stream,
	kindBLAKE3: metrics.Sums, kindHave: metrics.Have, kindShard: metrics.Shard, kindProbe: metrics.Probe,
	kindDelta: metrics.DeltaManifest, kindDeltaShard: metrics.Delta, kindDeltaHave: metrics.Have,
	kindHealth: metrics.Health, kindReady: metrics.Ready, kindMetrics: metrics.Scrape, kindPeers: metrics.Peers,
	kindStatus: metrics.Status,
}

// counting sees answers on their way, for the metrics, the status page and the access log.
type counting struct {
	next    http.Handler
	metrics *metrics.Metrics
	log     *accessLog
	readers *overview.Overview // nil without a status page
	swarms  bool               // nodes of a swarm read here
}

// newCounting returns a function that wraps a handler, unless the options count and show
// nothing.
func newCounting(opts Options, seen *overview.Overview, swarms bool) func(next http.Handler) http.Handler {
	if opts.Metrics == nil && opts.AccessLog == nil && seen == nil {
		return func(next http.Handler) http.Handler { return next }
	}
	c := counting{
		metrics: opts.Metrics, log: newAccessLog(opts.AccessLog, opts.Logger), readers: seen, swarms: swarms,
	}
	return func(next http.Handler) http.Handler {
		one := c
		one.next = next
		return &one
	}
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &counted{ResponseWriter: w, by: c, request: r, target: targetOf(r), begun: time.Now()}
	a.counter = c.metrics.Begin(metricKinds[a.target.kind])
	defer a.end()
	c.next.ServeHTTP(a, r)
}

// counted is an answer on its way.
type counted struct {
	http.ResponseWriter

	by      *counting
	request *http.Request
	target  target
	counter metrics.Request
	reader  *overview.Reader // of a shard that is being sent, or nil
	peer    bool             // a peer reads it
	begun   time.Time
	status  int
	bytes   int64
	took    time.Duration // in the end
}

// end notes that the answer is over.
func (c *counted) end() {
	c.status = cmp.Or(c.status, http.StatusOK)
	c.took = time.Since(c.begun)
	if c.by.log != nil {
		c.by.log.write(c) // first: each counted answer is in the log
	}
	c.counter.End(c.status)
	c.reader.End()
}

// Unwrap is for [http.ResponseController].
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader keeps the status.
func (c *counted) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
		if c.target.kind.isShard() && c.request.Method == http.MethodGet && status < http.StatusMultipleChoices {
			c.reader = c.by.readers.Begin(c.request.RemoteAddr, c.target.asker.reader.Name, c.target.version)
			c.peer = c.by.swarms && c.request.Header.Get(wire.SwarmHeader) == swarm.AsPeer
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write sends p, and counts it.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sent(int64(n))
	return n, err
}

// ReadFrom sends the bytes of src. The next writer must see the file below src, and no
// reader of ours around it, for the kernel to send it.
func (c *counted) ReadFrom(src io.Reader) (sent int64, err error) {
	all, ok := src.(*io.LimitedReader)
	if !ok {
		all = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	for all.N > 0 {
		most := min(all.N, countedStep)
		n, err := io.Copy(c.ResponseWriter, &io.LimitedReader{R: all.R, N: most})
		c.sent(n)
		sent += n
		all.N -= n
		if err != nil || n < most {
			return sent, err
		}
	}
	return sent, nil
}

// sent counts bytes, of which an answer to HEAD has none, whatever is written.
func (c *counted) sent(bytes int64) {
	if c.request.Method == http.MethodHead {
		return
	}
	c.bytes += bytes
	c.counter.Sent(bytes)
	if c.peer {
		c.counter.ToPeer(bytes)
	}
	c.reader.Sent(bytes)
}
