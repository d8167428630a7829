package metrics

import "github.com/prometheus/client_golang/prometheus"

// Server is what there is at a server at one moment.
type Server struct {
	// Versions are held, all of them; Newest is the number of the last, or 0.
	Versions, Newest int64

	// Shards are those of them.
	Shards int64

	// Arriving are versions that are on offer, or known of, and not held yet, and
	// Missing are the shards of those that are being brought that are not here.
	Arriving, Missing int64

	// Used is what the data directory takes of the disk, and Free what is left there,
	// in bytes; negative if that is not known.
	Used, Free int64

	// Ready says that the newest version of the upstreams is served.
	Ready bool

	// Peers are those of who follows the server that others are told of; negative if it
	// tells nobody.
	Peers int64
}

// Upstream is how an upstream is at one moment.
type Upstream struct {
	// Throughput is estimated, in bytes per second, and 0 while nothing is known.
	Throughput float64

	// Success is the estimated part of requests that succeed, from 0 to 1.
	Success float64

	// Up says that it has told what it offers when it was last asked.
	Up bool

	// Newest is the number of the newest version that it lists, or 0.
	Newest int64
}

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

// gauge is one value of a [Server].
type gauge struct {
	desc  *prometheus.Desc
	value func(Server) int64
}

// gauges are what is said of a [Server].
var gauges = []gauge{
	{description("versions_held", "Versions that are held and on offer."), func(s Server) int64 { return s.Versions }},
	{description("newest_version", "Number of the newest version that is held, or 0."), func(s Server) int64 { return s.Newest }},
	{description("shards_held", "Shards of the versions that are held."), func(s Server) int64 { return s.Shards }},
	{description("versions_arriving", "Versions that are on their way here."), func(s Server) int64 { return s.Arriving }},
	{description("shards_missing", "Shards of the versions on their way here that have not been verified."), func(s Server) int64 { return s.Missing }},
	{description("disk_used_bytes", "What the data directory takes of the disk."), func(s Server) int64 { return s.Used }},
	{description("disk_free_bytes", "What may still be written where the data directory is."), func(s Server) int64 { return s.Free }},
	{description("ready", "1 if the newest version that the upstreams list is served here, see /readyz."), func(s Server) int64 { return number(s.Ready) }},
	{description("swarm_peers", "Nodes that follow this server, can be reached and are told to others."), func(s Server) int64 { return s.Peers }},
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// serverCollector measures a server when it is asked.
type serverCollector struct{ metrics *Metrics }

// Describe sends what there may be.
func (c *serverCollector) Describe(to chan<- *prometheus.Desc) {
	for _, g := range gauges {
		to <- g.desc
	}
}

// Collect sends what there is, but what is not known.
func (c *serverCollector) Collect(to chan<- prometheus.Metric) {
	measure := c.metrics.server.Load()
	if measure == nil {
		return
	}
	s := (*measure)()
	for _, g := range gauges {
		if v := g.value(s); v >= 0 {
			to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(v))
		}
	}
}

// What is said of an [Upstream].
var (
	throughputDesc = description("upstream_throughput_bytes_per_second", "Moving average of what a transfer from an upstream brings; 0 while nothing is known.", "upstream")
	successDesc    = description("upstream_success_ratio", "Moving average of what an upstream does well, from 0 to 1; it heals with time.", "upstream")
	upDesc         = description("upstream_up", "1 if an upstream has said what it offers when it was last asked.", "upstream")
	newestDesc     = description("upstream_newest_version", "Number of the newest version that an upstream lists, or 0.", "upstream")
)

// upstreamCollector measures upstreams when it is asked.
type upstreamCollector struct {
	measure func() []Upstream
	names   []string
}

// Describe sends what there is.
func (c *upstreamCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{throughputDesc, successDesc, upDesc, newestDesc} {
		to <- d
	}
}

// Collect sends what there is.
func (c *upstreamCollector) Collect(to chan<- prometheus.Metric) {
	for i, u := range c.measure() {
		send := func(desc *prometheus.Desc, value float64) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, c.names[i])
		}
		send(throughputDesc, u.Throughput)
		send(successDesc, u.Success)
		send(upDesc, float64(number(u.Up)))
		send(newestDesc, float64(u.Newest))
	}
}
