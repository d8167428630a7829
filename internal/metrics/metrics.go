// Package metrics counts what a server does, for Prometheus. It owns the names, and
// knows nothing of HTTP, nor of how anything is done; those who do it tell.
//
// What a caller may lean on: every method of a nil [Metrics], and of what that returns,
// does nothing, so that who wants no metrics pays nothing and nobody looks first. What a
// reader may lean on: labels are the kinds of requests, the statuses that they are
// answered with, the upstreams that were configured, and why these have failed. Nothing
// that comes from the network is ever a label.
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
)

// ContentType is that of [Metrics.Text].
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// namespace begins every name of ours.
const namespace = "shardcast"

// A Kind is what a request is for.
type Kind int

// The kinds of requests.
const (
	Other Kind = iota // that there is no answer to
	Distribution
	Manifest
	Sums
	Have
	Shard
	Probe
	Health
	Ready
	Scrape
	Peers
	Status

	kinds // how many there are
)

// kindNames are the values of the label kind.
var kindNames = [kinds]string{
	Other: "other", Distribution: "distribution", Manifest: "manifest", Sums: "sums", Have: "have",
	Shard: "shard", Probe: "probe", Health: "healthz", Ready: "readyz", Scrape: "metrics",
	Peers: "peers", Status: "status",
}

// A Reason is why an upstream has failed.
type Reason int

// The reasons.
const (
	Down   Reason = iota // it did not say what it offers
	Broken               // it did not send what it was asked for, or not all of it
	Wrong                // it sent what does not fit a digest, a size or the distribution
	Busy                 // it said to come again later

	reasons // how many there are
)

// reasonNames are the values of the label reason.
var reasonNames = [reasons]string{Down: "down", Broken: "broken", Wrong: "wrong", Busy: "busy"}

// Metrics are those of one server. Their methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry
	scraping sync.Mutex // held while the values are collected; one is enough at a time

	requests *prometheus.CounterVec // by kind and code
	sent     [kinds]prometheus.Counter
	open     [kinds]prometheus.Gauge

	server atomic.Pointer[func() Server]

	received           []prometheus.Counter          // by upstream
	failures           [][reasons]prometheus.Counter // likewise
	fromPeers, toPeers prometheus.Counter
	peerFailures       [reasons]prometheus.Counter
	wasted             prometheus.Counter
	verified, mistaken prometheus.Counter
	shardSeconds       prometheus.Histogram
	versionSeconds     prometheus.Histogram
}

// New returns the metrics of a server of a role and build, which is a version.
func New(role, build string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "http_requests_total",
		Help: "Requests that have been answered, by what they were for and the status.",
	}, []string{"kind", "code"})
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "sent_bytes_total",
		Help: "Bytes of answers that have been sent, without their headers, by what the requests were for.",
	}, []string{"kind"})
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "http_requests_in_flight",
		Help: "Requests that are being answered, or held until there is something new.",
	}, []string{"kind"})
	for k, name := range kindNames {
		m.sent[k], m.open[k] = sent.WithLabelValues(name), open.WithLabelValues(name)
		m.requests.WithLabelValues(name, "200")
	}
	for _, k := range []Kind{Distribution, Manifest, Shard} {
		// From 0 on, for the first failure to be seen as one more.
		m.requests.WithLabelValues(kindNames[k], "500")
		m.requests.WithLabelValues(kindNames[k], "503")
	}
	m.toPeers = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "peer_sent_bytes_total",
		Help: "Bytes of shards that were sent to peers of a swarm; they are in sent_bytes_total, too.",
	})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, for the role of the server and the version of its program.",
	}, []string{"role", "version"})
	info.WithLabelValues(role, build).Set(1)
	m.registry.MustRegister(
		m.requests, sent, open, m.toPeers, info, &serverCollector{metrics: m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

// Follow adds what there is to say of those that are fetched from, by their names.
// Measure is called when somebody asks, and returns as many, in the same order. It is to
// be called once, before anything is counted.
func (m *Metrics) Follow(names []string, measure func() []Upstream) {
	if m == nil {
		return
	}
	received := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "received_bytes_total",
		Help: "Bytes of shards that an upstream has sent.",
	}, []string{"upstream"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "upstream_failures_total",
		Help: "Requests that an upstream has failed: it was down, broke off, sent what is wrong, or was busy.",
	}, []string{"upstream", "reason"})
	labels := make([]string, len(names))
	for i, name := range names {
		name = strings.ToValidUTF8(name, "_") // as a label must be
		labels[i] = name
		m.received = append(m.received, received.WithLabelValues(name))
		var by [reasons]prometheus.Counter
		for r, reason := range reasonNames {
			by[r] = failures.WithLabelValues(name, reason)
		}
		m.failures = append(m.failures, by)
	}
	m.verified = counter("shards_verified_total", "Shards that were fetched, or held at the start, and whose digest agreed.")
	m.mistaken = counter("shards_failed_total", "Shards that were fetched, or held at the start, and whose digest did not agree.")
	m.wasted = counter("wasted_bytes_total", "Bytes of shards that upstreams have sent and that were of no use: wrong, or there already.")
	m.shardSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "shard_fetch_duration_seconds",
		Help:    "Time from the first request for a shard until it was verified and on the disk.",
		Buckets: prometheus.ExponentialBuckets(0.01, 2.5, 12), // to 4 min
	})
	m.versionSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "version_complete_duration_seconds",
		Help:    "Time from when an upstream was first heard to list a version until that was verified and on the disk.",
		Buckets: prometheus.ExponentialBuckets(0.1, 2.5, 12), // to 40 min
	})
	m.fromPeers = counter("peer_received_bytes_total", "Bytes of shards that peers of a swarm have sent.")
	peerFailures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "peer_failures_total",
		Help: "How often a peer of a swarm has not done what it should, by why.",
	}, []string{"reason"})
	for r, reason := range reasonNames {
		m.peerFailures[r] = peerFailures.WithLabelValues(reason)
	}
	m.registry.MustRegister(received, failures, m.fromPeers, peerFailures, m.verified, m.mistaken, m.wasted, m.shardSeconds, m.versionSeconds,
		&upstreamCollector{measure: measure, names: labels})
}

// Measure has what is measured only when somebody asks come from measure, in place of
// what was given before.
func (m *Metrics) Measure(measure func() Server) {
	if m != nil {
		m.server.Store(&measure)
	}
}

// Text returns all of them, in the text format of Prometheus.
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

// Traffic is what has come and gone of shards since the process began, in bytes.
type Traffic struct {
	// Received is by upstream, in the order of [Metrics.Follow], and nil where that was
	// not called.
	Received []int64

	// Sent is to everybody.
	Sent int64

	// FromPeers has come from peers of a swarm, and is not in Received; ToPeers has gone to
	// them, and is in Sent.
	FromPeers, ToPeers int64
}

// Traffic returns what the counters have reached.
func (m *Metrics) Traffic() Traffic {
	if m == nil {
		return Traffic{}
	}
	t := Traffic{Sent: count(m.sent[Shard])}
	if m.fromPeers != nil {
		t.FromPeers = count(m.fromPeers)
	}
	t.ToPeers = count(m.toPeers)
	for _, c := range m.received {
		t.Received = append(t.Received, count(c))
	}
	return t
}

// count returns what c has reached.
func count(c prometheus.Counter) int64 {
	var value dto.Metric
	_ = c.Write(&value) // which a counter never fails to
	return int64(value.GetCounter().GetValue())
}

// A Request is one that is being answered.
type Request struct {
	metrics *Metrics
	kind    Kind
}

// Begin counts a request as being answered, until [Request.End].
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

// ToPeer counts bytes of the answer that go to a peer of a swarm. They are counted by
// [Request.Sent], too.
func (r Request) ToPeer(bytes int64) {
	if r.metrics != nil {
		r.metrics.toPeers.Add(float64(bytes))
	}
}

// End counts the request as answered with a status, which is one of those that the
// server has for its answers.
func (r Request) End(status int) {
	if r.metrics != nil {
		r.metrics.open[r.kind].Dec()
		r.metrics.requests.WithLabelValues(kindNames[r.kind], strconv.Itoa(status)).Inc()
	}
}

// Received counts bytes of shards that an upstream, by its number, has sent, or a peer,
// which has a negative one.
func (m *Metrics) Received(upstream int, bytes int64) {
	switch {
	case m == nil:
	case upstream < 0:
		m.fromPeers.Add(float64(bytes))
	default:
		m.received[upstream].Add(float64(bytes))
	}
}

// Wasted counts bytes that were of no use.
func (m *Metrics) Wasted(bytes int64) {
	if m != nil {
		m.wasted.Add(float64(max(bytes, 0))) // a negative one would panic
	}
}

// Failed counts a failure of an upstream, by its number.
func (m *Metrics) Failed(upstream int, why Reason) {
	switch {
	case m == nil:
	case upstream < 0:
		m.peerFailures[why].Inc()
	default:
		m.failures[upstream][why].Inc()
	}
}

// Verified counts shards whose digest agreed.
func (m *Metrics) Verified(shards int) {
	if m != nil {
		m.verified.Add(float64(shards))
	}
}

// Mistaken counts a shard whose digest did not agree.
func (m *Metrics) Mistaken() {
	if m != nil {
		m.mistaken.Inc()
	}
}

// Fetched counts a shard that has been fetched in dur.
func (m *Metrics) Fetched(dur time.Duration) {
	if m != nil {
		m.shardSeconds.Observe(dur.Seconds())
	}
}

// Completed counts a version that was here dur after an upstream had listed it.
func (m *Metrics) Completed(dur time.Duration) {
	if m != nil {
		m.versionSeconds.Observe(dur.Seconds())
	}
}
