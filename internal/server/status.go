package server

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
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
	"github.com/shardcast/shardcast/internal/wire"
)

// The paths of the status.
const (
	pagePath   = "/"
	statusPath = "/" + wire.StatusName
)

// Status is the part of a server's status that the server cannot see.
type Status struct {
	// Role is origin or middle, and Build the version of the program.
	Role, Build string

	// Upstreams returns the state of each upstream, in the order of the metrics; the page
	// adds the counted bytes. Nil means no upstreams.
	Upstreams func() []status.Upstream
}

const (
	// statusEvery is the least time between two looks at the server. Requests in between
	// share one.
	statusEvery = time.Second

	// arrivalMarks is the number of marks over which a version's speed is an average, so
	// that its estimate does not jump with each shard.
	arrivalMarks = 6

	// statusRest is the pause after a look, in durations of that look: looking takes a
	// twentieth of the time at most, however much there is to see, and however many ask.
	statusRest = 20
)

// statusPage shows a server. A nil one shows nothing.
type statusPage struct {
	opts    Options
	host    string
	health  health
	swarms  bool // nodes of a swarm read here
	started time.Time
	readers readers

	mu    sync.Mutex // guards marks
	marks []mark     // one per sample, the oldest first, and one before

	turn chan struct{} // holds a token during a look, whose goroutine alone uses what follows
	seen sight
	next time.Time // the earliest time of the next look
}

// sight is the result of one look.
type sight struct{ page, json []byte }

func newStatusPage(opts Options, health health, swarms bool) *statusPage {
	now := time.Now()
	host, _ := os.Hostname() // which may have none
	return &statusPage{
		opts: opts, host: host, health: health, swarms: swarms, started: now.UTC(),
		readers: readers{each: make(map[readerKey]*reader)},
		marks:   []mark{{at: now, traffic: opts.Metrics.Traffic()}}, turn: make(chan struct{}, 1),
	}
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

// follow sets a mark every [status.SampleEvery] until ctx ends.
func (p *statusPage) follow(ctx context.Context) {
	if p == nil {
		return
	}
	ticker := time.NewTicker(status.SampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.mark(now)
		}
	}
}

// mark ends a sample.
func (p *statusPage) mark(now time.Time) {
	p.readers.mark(now)
	m := mark{at: now, traffic: p.opts.Metrics.Traffic(), arrived: p.opts.Catalog.Arrived()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marks = append(p.marks[max(0, len(p.marks)-status.MaxSamples):], m)
}

// answer answers with the page, or with the JSON, to operators: scripts of other sites may
// not read it, and no cache may keep it.
func (p *statusPage) answer(w http.ResponseWriter, r *http.Request, _ target) error {
	seen, err := p.look(r.Context())
	if err != nil {
		return err
	}
	header := w.Header()
	keepFromSites(header)
	header.Set("Cache-Control", noStore)
	header.Set("Referrer-Policy", "no-referrer")
	if r.URL.Path == statusPath {
		serveText(w, r, "application/json", seen.json)
		return nil
	}
	header.Set("Content-Security-Policy", status.Policy())
	serveText(w, r, "text/html; charset=utf-8", seen.page)
	return nil
}

// look returns a recent sight of the server.
func (p *statusPage) look(ctx context.Context) (sight, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return sight{}, context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	begun := time.Now()
	if begun.Before(p.next) {
		return p.seen, nil
	}
	all, err := p.all(begun)
	if err != nil {
		return sight{}, err
	}
	var seen sight
	if seen.page, err = all.HTML(); err == nil {
		seen.json, err = all.JSON()
	}
	if err != nil {
		return sight{}, err
	}
	p.seen, p.next = seen, time.Now().Add(max(statusEvery, statusRest*time.Since(begun)))
	return seen, nil
}

// all looks at everything.
func (p *statusPage) all(now time.Time) (status.Status, error) {
	opts := p.opts.Status
	s := status.Status{Role: opts.Role, Host: p.host, Build: opts.Build, Time: now.UTC(), Started: p.started}
	why := p.health.unready()
	s.Ready, s.NotReady = why == nil, status.Text(why)
	here, err := p.opts.Catalog.Inventory(status.MaxVersions)
	if err != nil {
		return status.Status{}, err
	}
	list, err := listed(p.opts.Catalog)
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
		p.expect(now, item.Entry.Version, &v)
		s.Versions = append(s.Versions, v)
	}
	s.Downloads, s.MoreDownloads = p.readers.downloads(now)
	if opts.Upstreams != nil {
		s.Upstreams = opts.Upstreams()
	}
	p.count(now, &s)
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
func (p *statusPage) expect(now time.Time, number shard.Version, v *status.Version) {
	if v.State != status.Arriving || v.Done == nil {
		return
	}
	p.mu.Lock()
	marks := p.marks[max(0, len(p.marks)-arrivalMarks):]
	p.mu.Unlock()
	for _, m := range marks {
		if arrived, ok := m.arrived[number]; ok {
			v.Expect(speed(max(*v.Done-arrived, 0), now.Sub(m.at)), now)
			return
		}
	}
}

// count fills in the bytes and speeds of s.
func (p *statusPage) count(now time.Time, s *status.Status) {
	p.mu.Lock()
	marks := p.marks
	p.mu.Unlock()
	total := p.opts.Metrics.Traffic()
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
	if p.swarms {
		s.Swarm = &status.Swarm{
			Peers: max(p.opts.Members.Count(), 0), Sent: total.ToPeers, SentSpeed: speeds.ToPeers,
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
	return s
}
