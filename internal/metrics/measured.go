package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Server is the state of a server at one moment. A negative number is unknown, and absent
// from the metrics.
type Server struct {
	Versions int64 // held and on offer
	Newest   int64 // number of the newest held version, or 0
	Shards   int64 // of the held versions
	Arriving int64 // versions on offer, or arriving, that are not held yet
	Missing  int64 // shards that arriving versions lack
	Used     int64 // bytes of the data directory
	Free     int64 // bytes that the disk has left
	Ready    bool  // the newest version of the upstreams is served
	Peers    int64 // followers that the server lists to others

	// CertificateExpires is when the certificate for TLS does, or zero without one.
	CertificateExpires time.Time

	// Release is what release.txt says, or nil without one that can be read.
	Release *Signed
}

// Signed is what the publisher's signed list of versions says of itself.
type Signed struct {
	Seq     uint64
	Issued  time.Time
	Expires time.Time // zero for never
}

// Upstream is the state of an upstream at one moment.
type Upstream struct {
	Throughput float64 // estimate in bytes per second, 0 while unknown
	Success    float64 // estimated share of requests that succeed, from 0 to 1
	Up         bool    // it answered the last request for its versions
	Newest     int64   // number of the newest version that it lists, or 0
}

// gauge is one measured value of a [Server] or an [Upstream].
type gauge[T any] struct {
	desc  *prometheus.Desc
	value func(T) float64
}

// define returns a gauge with its name and help.
func define[T any](name, help string, value func(T) float64, labels ...string) gauge[T] {
	return gauge[T]{prometheus.NewDesc(namespace+"_"+name, help, labels, nil), value}
}

func serverGauge(name, help string, value func(Server) int64) gauge[Server] {
	return define(name, help, func(s Server) float64 { return float64(value(s)) })
}

func releaseGauge(name, help string, value func(Signed) float64) gauge[Server] {
	return define(name, help, func(s Server) float64 {
		if s.Release == nil {
			return -1
		}
		return value(*s.Release)
	})
}

func upstreamGauge(name, help string, value func(Upstream) float64) gauge[Upstream] {
	return define(name, help, value, "upstream")
}

var serverGauges = []gauge[Server]{
	serverGauge("versions_held", "Versions held and on offer.",
		func(s Server) int64 { return s.Versions }),
	serverGauge("newest_version", "Number of the newest held version, or 0.",
		func(s Server) int64 { return s.Newest }),
	serverGauge("shards_held", "Shards of the held versions.",
		func(s Server) int64 { return s.Shards }),
	serverGauge("versions_arriving", "Versions on offer or arriving that are not held yet.",
		func(s Server) int64 { return s.Arriving }),
	serverGauge("shards_missing", "Shards of arriving versions that are not verified yet.",
		func(s Server) int64 { return s.Missing }),
	serverGauge("disk_used_bytes", "Disk space that the data directory takes.",
		func(s Server) int64 { return s.Used }),
	serverGauge("disk_free_bytes", "Disk space that is left for the data directory.",
		func(s Server) int64 { return s.Free }),
	serverGauge("ready", "1 if this server serves the newest version that its upstreams list, see /readyz.",
		func(s Server) int64 { return number(s.Ready) }),
	serverGauge("swarm_peers", "Nodes that follow this server, and that it lists to others.",
		func(s Server) int64 { return s.Peers }),
	define("certificate_expires_timestamp_seconds", "Time at which this server's certificate expires.",
		func(s Server) float64 {
			if s.CertificateExpires.IsZero() {
				return -1
			}
			return float64(s.CertificateExpires.Unix())
		}),
	releaseGauge("release_seq", "Number of the publisher's release that this server has.",
		func(r Signed) float64 { return float64(r.Seq) }),
	releaseGauge("release_issued_timestamp_seconds", "Time of signing of that release.",
		func(r Signed) float64 { return float64(r.Issued.Unix()) }),
	releaseGauge("release_expires_timestamp_seconds", "Time at which that release expires; absent if it never does.",
		func(r Signed) float64 {
			if r.Expires.IsZero() {
				return -1
			}
			return float64(r.Expires.Unix())
		}),
}

var upstreamGauges = []gauge[Upstream]{
	upstreamGauge("upstream_throughput_bytes_per_second",
		"Moving average of one transfer from an upstream; 0 while unknown.",
		func(u Upstream) float64 { return u.Throughput }),
	upstreamGauge("upstream_success_ratio",
		"Moving average of an upstream's successes, from 0 to 1; it heals with time.",
		func(u Upstream) float64 { return u.Success }),
	upstreamGauge("upstream_up", "1 if an upstream answered the last request for its versions.",
		func(u Upstream) float64 { return float64(number(u.Up)) }),
	upstreamGauge("upstream_newest_version", "Number of the newest version that an upstream lists, or 0.",
		func(u Upstream) float64 { return float64(u.Newest) }),
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func describe[T any](gauges []gauge[T], to chan<- *prometheus.Desc) {
	for _, g := range gauges {
		to <- g.desc
	}
}

// serverCollector measures a server at each scrape.
type serverCollector struct{ metrics *Metrics }

// Describe sends the descriptions.
func (c *serverCollector) Describe(to chan<- *prometheus.Desc) { describe(serverGauges, to) }

// Collect sends the known values.
func (c *serverCollector) Collect(to chan<- prometheus.Metric) {
	measure := c.metrics.server.Load()
	if measure == nil {
		return
	}
	s := (*measure)()
	for _, g := range serverGauges {
		if v := g.value(s); v >= 0 {
			to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v)
		}
	}
}

// upstreamCollector measures upstreams at each scrape.
type upstreamCollector struct {
	measure func() []Upstream
	names   []string
}

// Describe sends the descriptions.
func (c *upstreamCollector) Describe(to chan<- *prometheus.Desc) { describe(upstreamGauges, to) }

// Collect sends the values of each upstream.
func (c *upstreamCollector) Collect(to chan<- prometheus.Metric) {
	for i, u := range c.measure() {
		for _, g := range upstreamGauges {
			to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(u), c.names[i])
		}
	}
}
