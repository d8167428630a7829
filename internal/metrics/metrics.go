// Package metrics counts the work of a server, for Prometheus.
//
// It promises the names of the metrics and the values of their labels, which dashboards and
// alerts are built on. It refuses to know HTTP, and how any work is done: servers and pools
// report to it.
//
// A caller may lean on nil: a nil [Metrics], and each [Request] of it, is allowed everywhere
// and counts nothing. A reader may lean on few labels: the kinds of requests, the statuses
// of answers, the configured upstreams, and the reasons of failures. No text from the
// network becomes a label.
package metrics

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/shardcast/shardcast/internal/logqueue"
)

// ContentType is the media type of [Metrics.Text].
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// namespace begins the name of each metric.
const namespace = "shardcast"

// Kind is the subject of a request.
type Kind int

// The kinds.
const (
	Other Kind = iota // no such path
	Distribution
	Release
	Manifest
	Sums
	Files
	Stream
	Have
	Shard
	DeltaManifest
	Delta // a shard of one
	Probe
	Health
	Ready
	Scrape
	Peers
	Status

	kinds // their number
)

// kindNames are the values of the label kind.
var kindNames = [kinds]string{
	Other: "other", Distribution: "distribution", Release: "release", Manifest: "manifest",
	Sums: "sums", Files: "files", Stream: "stream", Have: "have", Shard: "shard",
	DeltaManifest: "delta_manifest", Delta: "delta", Probe: "probe",
	Health: "healthz", Ready: "readyz", Scrape: "metrics", Peers: "peers", Status: "status",
}

// Reason is the cause of an upstream's failure.
type Reason int

// The reasons.
const (
	Down      Reason = iota // it did not list its versions
	Broken                  // it sent an error, or broke off
	Wrong                   // its bytes contradict a digest, a size or the distribution
	Busy                    // it asked for a later retry
	Untrusted               // its release is not the publisher's word

	reasons // their number
)

// reasonNames are the values of the label reason.
var reasonNames = [reasons]string{Down: "down", Broken: "broken", Wrong: "wrong", Busy: "busy", Untrusted: "untrusted"}

// Cut is the reason why a server closes a connection that a client did not close.
type Cut int

// The reasons.
const (
	CutIdle Cut = iota // it was the longest idle, when another one came
	CutHost            // its host had more than its part
	CutNew             // it came last

	cuts // their number
)

// cutNames are the values of the label reason.
var cutNames = [cuts]string{CutIdle: "idle", CutHost: "host", CutNew: "new"}

// Metrics are the counters and gauges of one server. Any goroutine may call their methods.
type Metrics struct {
	registry *prometheus.Registry
	scraping sync.Mutex // held during a collection: one at a time is enough

	requests *prometheus.CounterVec // by kind and code
	sent     [kinds]prometheus.Counter
	open     [kinds]prometheus.Gauge

	connections prometheus.Gauge
	cut         [cuts]prometheus.Counter

	server atomic.Pointer[func() Server]

	received           []prometheus.Counter          // by upstream
	failures           [][reasons]prometheus.Counter // likewise
	fromPeers, toPeers prometheus.Counter
	peerFailures       [reasons]prometheus.Counter
	wasted             prometheus.Counter
	saved              prometheus.Counter
	verified, mistaken prometheus.Counter
	shardSeconds       prometheus.Histogram
	versionSeconds     prometheus.Histogram
}

// New returns the metrics of a server: its role, and the version of its program.
func New(role, build string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "http_requests_total",
		Help: "Answered requests, by kind and status.",
	}, []string{"kind", "code"})
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "sent_bytes_total",
		Help: "Sent bytes of answers, without headers, by kind of request.",
	}, []string{"kind"})
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "http_requests_in_flight",
		Help: "Requests being answered, or held until there is news.",
	}, []string{"kind"})
	for k, name := range kindNames {
		m.sent[k], m.open[k] = sent.WithLabelValues(name), open.WithLabelValues(name)
		m.requests.WithLabelValues(name, "200")
	}
	for _, k := range []Kind{Distribution, Manifest, Shard} {
		// They begin at 0, so that a rate includes the first failure.
		m.requests.WithLabelValues(kindNames[k], "500")
		m.requests.WithLabelValues(kindNames[k], "503")
	}
	m.connections = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "open_connections", Help: "Open connections of clients, idle or not.",
	})
	cut := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "cut_connections_total",
		Help: "Connections that were closed since there were too many: idle, of a host with most, or new ones.",
	}, []string{"reason"})
	for c, name := range cutNames {
		m.cut[c] = cut.WithLabelValues(name)
	}
	m.toPeers = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "peer_sent_bytes_total",
		Help: "Bytes of shards sent to peers of a swarm, which sent_bytes_total includes.",
	})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, for the role of the server and the version of its program.",
	}, []string{"role", "version"})
	info.WithLabelValues(role, build).Set(1)
	lines := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "log_lines_dropped_total",
		Help: "Lines of the log and the access log that were dropped, because their reader was too slow.",
	}, func() float64 { return float64(logqueue.Dropped()) })
	m.registry.MustRegister(
		m.requests, sent, open, m.connections, cut, m.toPeers, info, lines, &serverCollector{metrics: m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

// Follow adds the metrics of fetching, for upstreams with these names. Each scrape calls
// measure, which returns one value per name, in that order. A middle calls Follow once,
// before it fetches.
func (m *Metrics) Follow(names []string, measure func() []Upstream) {
	if m == nil {
		return
	}
	received := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "received_bytes_total",
		Help: "Bytes of shards received from an upstream.",
	}, []string{"upstream"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "upstream_failures_total",
		Help: "Failures of an upstream, by reason: down, broken (off), wrong (bytes), busy, untrusted (release).",
	}, []string{"upstream", "reason"})
	labels := make([]string, len(names))
	for i, name := range names {
		name = strings.ToValidUTF8(name, "_") // labels are UTF-8
		labels[i] = name
		m.received = append(m.received, received.WithLabelValues(name))
		var by [reasons]prometheus.Counter
		for r, reason := range reasonNames {
			by[r] = failures.WithLabelValues(name, reason)
		}
		m.failures = append(m.failures, by)
	}
	m.verified = counter("shards_verified_total",
		"Shards, fetched or held at the start, with the right digest.")
	m.mistaken = counter("shards_failed_total",
		"Shards, fetched or held at the start, with a wrong digest.")
	m.wasted = counter("wasted_bytes_total",
		"Received bytes of shards without use: wrong, or here already.")
	m.saved = counter("delta_saved_bytes_total",
		"Bytes of versions that were made by deltas, less those of the deltas.")
	m.shardSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "shard_fetch_duration_seconds",
		Help:    "Time from the first request for a shard until it is verified and on the disk.",
		Buckets: prometheus.ExponentialBuckets(0.01, 2.5, 12), // to 4 min
	})
	m.versionSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "version_complete_duration_seconds",
		Help:    "Time from the first listing of a version by an upstream until it is verified and on the disk.",
		Buckets: prometheus.ExponentialBuckets(0.1, 2.5, 12), // to 40 min
	})
	m.fromPeers = counter("peer_received_bytes_total", "Bytes of shards received from peers of a swarm.")
	peerFailures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "peer_failures_total",
		Help: "Failures of peers of a swarm, by reason.",
	}, []string{"reason"})
	for r, reason := range reasonNames {
		m.peerFailures[r] = peerFailures.WithLabelValues(reason)
	}
	m.registry.MustRegister(
		received, failures, m.fromPeers, peerFailures,
		m.verified, m.mistaken, m.wasted, m.saved, m.shardSeconds, m.versionSeconds,
		&upstreamCollector{measure: measure, names: labels},
	)
}

// Measure sets the source of the gauges in [Server], which each scrape calls, in place of an
// earlier one.
func (m *Metrics) Measure(measure func() Server) {
	if m != nil {
		m.server.Store(&measure)
	}
}

// Text returns all metrics in the text format of Prometheus.
func (m *Metrics) Text() ([]byte, error) {
	m.scraping.Lock()
	defer m.scraping.Unlock()
	families, err := m.registry.Gather()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// Traffic is the bytes of shards sent and received since the process began.
type Traffic struct {
	// Received is one count per upstream, in the order of [Metrics.Follow]; nil without it.
	Received []int64

	// Sent counts all clients and peers.
	Sent int64

	// FromPeers counts peers of a swarm, which Received leaves out; ToPeers likewise, and
	// Sent includes it.
	FromPeers, ToPeers int64

	// Saved counts the bytes of versions that did not come because of deltas.
	Saved int64
}

// In sums up the bytes from upstreams and peers; nil for a server that does not fetch.
func (t Traffic) In() *int64 {
	if t.Received == nil {
		return nil
	}
	all := t.FromPeers
	for _, bytes := range t.Received {
		all += bytes
	}
	return &all
}

// Traffic returns the counters' values.
func (m *Metrics) Traffic() Traffic {
	if m == nil {
		return Traffic{}
	}
	t := Traffic{Sent: count(m.sent[Shard]) + count(m.sent[Delta])}
	if m.fromPeers != nil {
		t.FromPeers, t.Saved = count(m.fromPeers), count(m.saved)
	}
	t.ToPeers = count(m.toPeers)
	for _, c := range m.received {
		t.Received = append(t.Received, count(c))
	}
	return t
}

// count returns the value of c.
func count(c prometheus.Counter) int64 {
	var value dto.Metric
	_ = c.Write(&value) // a counter never fails
	return int64(value.GetCounter().GetValue())
}

// OpenConnections counts so many more open connections, or fewer below 0.
func (m *Metrics) OpenConnections(more int) {
	if m != nil {
		m.connections.Add(float64(more))
	}
}

// CutConnection counts a connection that the server closed since there were too many.
func (m *Metrics) CutConnection(why Cut) {
	if m != nil {
		m.cut[why].Inc()
	}
}

// Request counts one request while a server answers it.
type Request struct {
	metrics *Metrics
	kind    Kind
}

// Begin counts a request as in flight until [Request.End].
func (m *Metrics) Begin(k Kind) Request {
	if m != nil {
		m.open[k].Inc()
	}
	return Request{m, k}
}

// Sent counts bytes of the answer.
func (r Request) Sent(bytes int64) {
	if r.metrics != nil {
		r.metrics.sent[r.kind].Add(float64(bytes))
	}
}

// ToPeer counts bytes of the answer to a peer of a swarm, which [Request.Sent] counts, too.
func (r Request) ToPeer(bytes int64) {
	if r.metrics != nil {
		r.metrics.toPeers.Add(float64(bytes))
	}
}

// End counts the request as answered with a status, one of the few that servers send.
func (r Request) End(status int) {
	if r.metrics != nil {
		r.metrics.open[r.kind].Dec()
		r.metrics.requests.WithLabelValues(kindNames[r.kind], strconv.Itoa(status)).Inc()
	}
}

// Received counts bytes of shards from an upstream, by its number, or from a peer: below 0.
func (m *Metrics) Received(upstream int, bytes int64) {
	switch {
	case m == nil:
	case upstream < 0:
		m.fromPeers.Add(float64(bytes))
	default:
		m.received[upstream].Add(float64(bytes))
	}
}

// Wasted counts received bytes without use.
func (m *Metrics) Wasted(bytes int64) {
	if m != nil {
		m.wasted.Add(float64(max(bytes, 0))) // a negative one would panic
	}
}

// Saved counts bytes that did not come because of a delta.
func (m *Metrics) Saved(bytes int64) {
	if m != nil {
		m.saved.Add(float64(max(bytes, 0))) // a negative one would panic
	}
}

// Failed counts a failure of an upstream, by its number, or of a peer: below 0.
func (m *Metrics) Failed(upstream int, why Reason) {
	switch {
	case m == nil:
	case upstream < 0:
		m.peerFailures[why].Inc()
	default:
		m.failures[upstream][why].Inc()
	}
}

// Verified counts shards with the right digest.
func (m *Metrics) Verified(shards int) {
	if m != nil {
		m.verified.Add(float64(shards))
	}
}

// Mistaken counts a shard with a wrong digest.
func (m *Metrics) Mistaken() {
	if m != nil {
		m.mistaken.Inc()
	}
}

// Fetched counts a shard that took dur to fetch.
func (m *Metrics) Fetched(dur time.Duration) {
	if m != nil {
		m.shardSeconds.Observe(dur.Seconds())
	}
}

// Completed counts a version that was complete dur after an upstream first listed it.
func (m *Metrics) Completed(dur time.Duration) {
	if m != nil {
		m.versionSeconds.Observe(dur.Seconds())
	}
}
