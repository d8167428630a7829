package server

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
	"github.com/shardcast/shardcast/internal/wire"
)

// The paths of the status.
const (
	pagePath   = "/"
	statusPath = "/" + wire.StatusName
)

// Status is the part of a server's status that the handler cannot see.
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

	// statusRest is the pause after a look, in durations of that look: looking takes a
	// twentieth of the time at most, however much there is to see, and however many ask.
	statusRest = 20
)

// statusPage shows a handler's server. A nil one shows nothing.
type statusPage struct {
	handler *handler
	opts    Status
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

func newStatusPage(h *handler, opts Status) *statusPage {
	now := time.Now()
	return &statusPage{
		handler: h, opts: opts, started: now.UTC(), readers: readers{each: make(map[readerKey]*reader)},
		marks: []mark{{now, h.metrics.Traffic()}}, turn: make(chan struct{}, 1),
	}
}

// mark is the traffic of a server up to a moment.
type mark struct {
	at      time.Time
	traffic metrics.Traffic
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marks = append(p.marks[max(0, len(p.marks)-status.MaxSamples):], mark{now, p.handler.metrics.Traffic()})
}

// read notes that remote receives a shard of a version. It returns nil beyond [maxReaders].
func (p *statusPage) read(remote string, version shard.Version) *reader {
	if p == nil {
		return nil
	}
	return p.readers.begin(remote, version)
}

// serve answers with the page, or with the JSON, to operators: scripts of other sites may
// not read it, and no cache may keep it.
func (p *statusPage) serve(w http.ResponseWriter, r *http.Request) error {
	seen, err := p.look(r.Context())
	if err != nil {
		return err
	}
	header := w.Header()
	header.Del("Access-Control-Allow-Origin")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
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
	h := p.handler
	s := status.Status{Role: p.opts.Role, Build: p.opts.Build, Time: now.UTC(), Started: p.started}
	why := h.unready()
	s.Ready, s.NotReady = why == nil, status.Text(why)
	// The board before the disk: a version that moves to the disk meanwhile is in both.
	arriving := h.board.Arriving()
	listed, _ := h.board.Listed()
	usage, err := h.store.Usage()
	if err != nil {
		return status.Status{}, err
	}
	s.Disk.Used = usage.Bytes
	if usage.Free >= 0 {
		s.Disk.Free = &usage.Free
	}
	s.Versions, s.MoreVersions = p.versions(arriving, listed, usage.Held)
	s.Downloads, s.MoreDownloads = p.readers.downloads(now)
	if p.opts.Upstreams != nil {
		s.Upstreams = p.opts.Upstreams()
	}
	p.count(now, &s)
	return s, nil
}

// count fills in the bytes and speeds of s.
func (p *statusPage) count(now time.Time, s *status.Status) {
	p.mu.Lock()
	marks := p.marks
	p.mu.Unlock()
	total := p.handler.metrics.Traffic()
	speeds := mark{now, total}.since(marks[max(0, len(marks)-2)]) // over five to ten seconds
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
	if p.handler.swarm != nil {
		s.Swarm = &status.Swarm{
			Peers: max(p.handler.members.Count(), 0), Sent: total.ToPeers, SentSpeed: speeds.ToPeers,
			Received: total.FromPeers, ReceivedSpeed: speeds.FromPeers, Share: share(total.FromPeers),
		}
	}
	for i := range min(len(s.Upstreams), len(total.Received)) {
		u := &s.Upstreams[i]
		u.Received, u.Speed, u.Share = total.Received[i], speeds.Received[i], share(total.Received[i])
	}
}

// versions returns the newest versions, the newest first, and the number of older ones. An
// arriving version hides a held one of the same number, which it will replace.
func (p *statusPage) versions(
	arriving []*relay.Version, listed, held []distfile.Entry,
) (shown []status.Version, more int) {
	all := make(map[shard.Version]func() status.Version)
	for _, e := range held {
		all[e.Version] = func() status.Version { return p.held(e) }
	}
	for _, e := range listed {
		all[e.Version] = func() status.Version {
			return status.Version{Version: e.Version.String(), State: status.Waiting, Digest: e.Digest.String()}
		}
	}
	for _, v := range arriving {
		all[v.Entry.Version] = func() status.Version { return arrivingStatus(v) }
	}
	shown = []status.Version{}
	for _, v := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		if len(shown) == status.MaxVersions {
			break
		}
		shown = append(shown, all[v]())
	}
	return shown, len(all) - len(shown)
}

// arrivingStatus describes an arriving version.
func arrivingStatus(v *relay.Version) status.Version {
	s := describe(v.Entry, v.Manifest)
	s.State = status.Arriving
	var shards []status.Shard
	for e := range v.Extents() {
		size := v.Manifest.Shard(len(shards) + 1).Size
		shards = append(shards, status.Shard{Here: e.Verified, Begun: e.Begun, Size: size, Bytes: e.Bytes})
	}
	s.Add(shards)
	return s
}

// held describes a version on the disk.
func (p *statusPage) held(e distfile.Entry) status.Version {
	var m shard.Manifest // zero if the file is missing, or damaged
	if f, err := p.handler.store.Manifest(e.Version); err == nil {
		m, _ = shard.ParseManifest(f)
		_ = f.Close()
	}
	numbers, _ := p.handler.store.Shards(e.Version)
	return heldStatus(e, m, numbers)
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
