// Package overview answers what a server sees of itself at one moment: its versions and their
// shards, the clients that receive some, its speeds and its release. Package status says how
// that looks. It refuses to know HTTP: servers report to it, and show what it returns.
//
// A caller may lean on this: however many ask, it looks once a second at most, and for a
// twentieth of the time. Its methods may be called from any goroutine, and a nil [Overview]
// sees nothing.
package overview

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
)

// Options say what is seen. Catalog and Unready are required.
type Options struct {
	// Role is origin or middle, and Build the version of the program.
	Role, Build string

	// Catalog is what the server has.
	Catalog *catalog.Catalog

	// Metrics count its traffic. Nil counts none.
	Metrics *metrics.Metrics

	// Unready returns why the newest version anywhere is not served here, or nil.
	Unready func() error

	// Upstreams returns the state of each upstream, in the order of the metrics; the overview
	// adds the counted bytes. Nil means no upstreams.
	Upstreams func() []status.Upstream

	// Peers returns the number of nodes that the server lists to one another. Nil means that it
	// has no swarm.
	Peers func() int
}

const (
	// lookEvery is the least time between two looks at the server. Requests in between
	// share one.
	lookEvery = time.Second

	// arrivalMarks is the number of marks over which a version's speed is an average, so
	// that its estimate does not jump with each shard.
	arrivalMarks = 6

	// lookRest is the pause after a look, in durations of that look: looking takes a
	// twentieth of the time at most, however much there is to see, and however many ask.
	lookRest = 20
)

// An Overview looks at a server.
type Overview struct {
	opts    Options
	host    string
	started time.Time
	readers readers

	mu    sync.Mutex // guards marks
	marks []mark     // one per sample, the oldest first, and one before

	turn chan struct{} // holds a token during a look, whose goroutine alone uses what follows
	seen Sight
	next time.Time // the earliest time of the next look
}

// Sight is the result of one look: the status page, and its JSON.
type Sight struct{ Page, JSON []byte }

// New returns an overview of a server that starts now.
func New(opts Options) *Overview {
	now := time.Now()
	host, _ := os.Hostname() // which may have none
	return &Overview{
		opts: opts, host: host, started: now.UTC(),
		readers: readers{each: make(map[readerKey]*Reader)},
		marks:   []mark{{at: now, traffic: opts.Metrics.Traffic()}}, turn: make(chan struct{}, 1),
	}
}

// Begin notes that a client at remote, with a token of that name, if any, receives a shard of a
// version, until [Reader.End]. It returns nil beyond 4,096 readers.
func (o *Overview) Begin(remote, name string, version shard.Version) *Reader {
	if o == nil {
		return nil
	}
	return o.readers.begin(remote, name, version)
}

// mark is the traffic of a server up to a moment, and the bytes of its arriving versions.
type mark struct {
	at      time.Time
	traffic metrics.Traffic
	arrived map[shard.Version]int64
}

// since returns the speeds since an earlier mark.
func (m mark) since(before mark) metrics.Traffic {
	rate := func(now, then int64) int64 { return speed(now-then, m.at.Sub(before.at)) }
	t := metrics.Traffic{
		Sent:      rate(m.traffic.Sent, before.traffic.Sent),
		ToPeers:   rate(m.traffic.ToPeers, before.traffic.ToPeers),
		FromPeers: rate(m.traffic.FromPeers, before.traffic.FromPeers),
	}
	for i, total := range m.traffic.Received {
		t.Received = append(t.Received, rate(total, before.traffic.Received[i]))
	}
	return t
}

// Follow sets a mark every [status.SampleEvery] until ctx ends.
func (o *Overview) Follow(ctx context.Context) {
	if o == nil {
		return
	}
	ticker := time.NewTicker(status.SampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			o.mark(now)
		}
	}
}

// mark ends a sample.
func (o *Overview) mark(now time.Time) {
	o.readers.mark(now)
	m := mark{at: now, traffic: o.opts.Metrics.Traffic(), arrived: o.opts.Catalog.Arrived()}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.marks = append(o.marks[max(0, len(o.marks)-status.MaxSamples):], m)
}

// Look returns a recent sight of the server. Its error is that of ctx, or of the data directory.
func (o *Overview) Look(ctx context.Context) (Sight, error) {
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return Sight{}, context.Cause(ctx)
	}
	defer func() { <-o.turn }()
	begun := time.Now()
	if begun.Before(o.next) {
		return o.seen, nil
	}
	all, err := o.all(begun)
	if err != nil {
		return Sight{}, err
	}
	var seen Sight
	if seen.Page, err = all.HTML(); err == nil {
		seen.JSON, err = all.JSON()
	}
	if err != nil {
		return Sight{}, err
	}
	o.seen, o.next = seen, time.Now().Add(max(lookEvery, lookRest*time.Since(begun)))
	return seen, nil
}

// all looks at everything.
func (o *Overview) all(now time.Time) (status.Status, error) {
	opts := o.opts
	s := status.Status{Role: opts.Role, Host: o.host, Build: opts.Build, Time: now.UTC(), Started: o.started}
	why := opts.Unready()
	s.Ready, s.NotReady = why == nil, status.Text(why)
	here, err := o.opts.Catalog.Inventory(status.MaxVersions)
	if err != nil {
		return status.Status{}, err
	}
	list, err := o.opts.Catalog.Listed()
	s.Release = releaseStatus(list, err, now)
	s.Disk.Used = here.Disk.Bytes
	if here.Disk.Free >= 0 {
		s.Disk.Free = &here.Disk.Free
	}
	s.Versions, s.MoreVersions = []status.Version{}, here.More
	for _, item := range here.Versions {
		v := versionStatus(item)
		if s.Release != nil {
			signed := isSigned(list, item)
			v.Signed = &signed
		}
		o.expect(now, item.Entry.Version, &v)
		s.Versions = append(s.Versions, v)
	}
	s.Downloads, s.MoreDownloads = o.readers.downloads(now)
	if opts.Upstreams != nil {
		s.Upstreams = opts.Upstreams()
	}
	o.count(now, &s)
	return s, nil
}

// releaseStatus describes the release that says list, or err, or returns nil if there is none.
func releaseStatus(list release.Release, err error, now time.Time) *status.Release {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &status.Release{Error: status.Text(err)}
	}
	return &status.Release{
		Feed: list.Feed, Epoch: list.Epoch, Seq: list.Seq, Issued: list.Issued.UTC(), Expires: list.Expires.UTC(),
		Expired: list.ExpiredAt(now),
	}
}

// isSigned reports whether list has the version with the manifest that is here.
func isSigned(list release.Release, item catalog.Item) bool {
	e, ok := list.Find(item.Entry.Version)
	m := item.Manifest
	return ok && !e.Withdrawn && item.Text == e.Manifest && m.Digest == e.Digest && m.Size == e.Size
}

// expect has an arriving version state when it will be here, by its speed since the oldest of
// the last few marks at which it was arriving.
func (o *Overview) expect(now time.Time, number shard.Version, v *status.Version) {
	if v.State != status.Arriving || v.Done == nil {
		return
	}
	o.mu.Lock()
	marks := o.marks[max(0, len(o.marks)-arrivalMarks):]
	o.mu.Unlock()
	for _, m := range marks {
		if arrived, ok := m.arrived[number]; ok {
			v.Expect(speed(max(*v.Done-arrived, 0), now.Sub(m.at)), now)
			return
		}
	}
}

// count fills in the bytes and speeds of s.
func (o *Overview) count(now time.Time, s *status.Status) {
	o.mu.Lock()
	marks := o.marks
	o.mu.Unlock()
	total := o.opts.Metrics.Traffic()
	s.DeltaSaved = total.Saved
	speeds := mark{at: now, traffic: total}.since(marks[max(0, len(marks)-2)]) // over five to ten seconds
	s.Throughput = status.Throughput{Sent: speeds.Sent, Received: speeds.In(), Samples: []status.Sample{}}
	for i := 1; i < len(marks); i++ {
		if now.Sub(marks[i].at) < status.MaxSamples*status.SampleEvery {
			t := marks[i].since(marks[i-1])
			s.Throughput.Samples = append(s.Throughput.Samples,
				status.Sample{Time: marks[i].at.UTC(), Sent: t.Sent, Received: t.In()})
		}
	}
	share := func(bytes int64) float64 {
		if all := total.In(); all != nil {
			return float64(bytes) / float64(max(*all, 1))
		}
		return 0
	}
	if o.opts.Peers != nil {
		s.Swarm = &status.Swarm{
			Peers: max(o.opts.Peers(), 0), Sent: total.ToPeers, SentSpeed: speeds.ToPeers,
			Received: total.FromPeers, ReceivedSpeed: speeds.FromPeers, Share: share(total.FromPeers),
		}
	}
	for i := range min(len(s.Upstreams), len(total.Received)) {
		u := &s.Upstreams[i]
		u.Received, u.Speed, u.Share = total.Received[i], speeds.Received[i], share(total.Received[i])
	}
}

// versionStatus describes a version.
func versionStatus(item catalog.Item) status.Version {
	if item.State == catalog.Held {
		return heldStatus(item.Entry, item.Manifest, item.Numbers)
	}
	s := describe(item.Entry, item.Manifest)
	if s.State = status.Waiting; item.State == catalog.Arriving {
		s.State = status.Arriving
		shards := make([]status.Shard, len(item.Extents))
		for i, e := range item.Extents {
			size := item.Manifest.Shard(i + 1).Size
			shards[i] = status.Shard{Here: e.Verified, Begun: e.Begun, Size: size, Bytes: e.Bytes}
		}
		s.Add(shards)
	}
	return s
}

// heldStatus describes e, with its manifest if that is not zero, and its shards on the disk.
func heldStatus(e distfile.Entry, m shard.Manifest, numbers []int) status.Version {
	s := describe(e, m)
	count := len(m.Shards)
	if s.Size == nil {
		if count = max(e.Count, 0); count == 0 && len(numbers) > 0 {
			count = slices.Max(numbers) // the only evidence
		}
	}
	shards := make([]status.Shard, min(count, shard.MaxShards))
	for i := range m.Shards {
		shards[i].Size = m.Shard(i + 1).Size
	}
	for _, number := range numbers {
		if number <= len(shards) {
			one := &shards[number-1]
			one.Here, one.Bytes = true, one.Size
		}
	}
	s.Add(shards)
	if s.Missing > 0 || count == 0 && s.Size == nil {
		s.State = status.Damaged
	}
	return s
}

// describe returns a version as its manifest describes it or, if that is zero, its entry.
func describe(e distfile.Entry, m shard.Manifest) status.Version {
	s := status.Version{Version: e.Version.String(), State: status.Here, Digest: e.Digest.String()}
	if m.Digest != (shard.Digest{}) {
		s.Name, s.Date, s.Size, s.ShardSize, s.Digest = m.Name, m.Date.UTC(), &m.Size, m.ShardSize, m.Digest.String()
	}
	for _, d := range m.Deltas {
		s.Deltas = append(s.Deltas, status.Delta{Base: d.Base.String(), Size: d.Size})
	}
	return s
}
