package server

import (
	"context"
	"maps"
	"net/http"
	"os"
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

// Where the status is.
const (
	pagePath   = "/"
	statusPath = "/" + wire.StatusName
)

// Status says of the server what the handler does not see itself.
type Status struct {
	// Role is origin or middle, and Build the version of the program.
	Role, Build string

	// Upstreams returns how those that are fetched from are, in the order in which the
	// metrics have them; what these count is added to it. Nil is for none.
	Upstreams func() []status.Upstream
}

const (
	// statusEvery is the least time between two looks for the status. All who ask in
	// between get the same.
	statusEvery = time.Second

	// statusRest is how much longer than a look took nobody looks again: however much there
	// is to see, and however many ask, it takes a twentieth of the time at most.
	statusRest = 20
)

// statusPage shows what a handler's server has and does. Of a nil one nothing is seen.
type statusPage struct {
	handler *handler
	opts    Status
	started time.Time
	readers readers
	history status.Recorder

	mu     sync.Mutex // guards meters
	meters []status.Meter

	turn chan struct{} // holds one while somebody looks, who alone uses what follows
	seen sight
	next time.Time // before it there is no other look
	held map[shard.Version]heldVersion
}

// sight is what was seen at one look.
type sight struct{ page, json []byte }

func newStatusPage(h *handler, opts Status) *statusPage {
	now := time.Now()
	p := &statusPage{
		handler: h, opts: opts, started: now.UTC(), readers: readers{each: make(map[reads]*reader)}, turn: make(chan struct{}, 1),
	}
	traffic := h.metrics.Traffic()
	for _, total := range totals(traffic) {
		p.meters = append(p.meters, status.NewMeter(now, total))
	}
	return p
}

// follow has what is measured over time be measured, until ctx ends.
func (p *statusPage) follow(ctx context.Context) {
	if p == nil {
		return
	}
	ticker := time.NewTicker(status.SampleEvery)
	defer ticker.Stop()
	for {
		p.mark(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// mark notes how far the counters are.
func (p *statusPage) mark(now time.Time) {
	traffic := p.handler.metrics.Traffic()
	p.history.Record(now, traffic.Sent, received(traffic))
	p.readers.mark(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, total := range totals(traffic) {
		p.meters[i].Mark(now, total)
	}
}

// totals are what meters are of: what upstreams have sent, peers of a swarm have sent and
// been sent, and everybody has been sent.
func totals(t metrics.Traffic) []int64 { return append(t.Received, t.FromPeers, t.ToPeers, t.Sent) }

// received returns all that has come, and nil where nothing ever does.
func received(t metrics.Traffic) *int64 {
	if len(t.Received) == 0 {
		return nil
	}
	all := t.FromPeers
	for _, r := range t.Received {
		all += r
	}
	return &all
}

// read notes that a shard of a version is being sent to remote, and returns who reads it,
// or nil if that is not known.
func (p *statusPage) read(remote string, version shard.Version) *reader {
	if p == nil {
		return nil
	}
	return p.readers.begin(remote, version)
}

// serve answers with the page, or with the same in JSON. It is for operators, and not for
// the pages of other sites, nor to be kept anywhere.
func (p *statusPage) serve(w http.ResponseWriter, r *http.Request) error {
	s, err := p.look(r.Context())
	if err != nil {
		return err
	}
	header := w.Header()
	header.Del("Access-Control-Allow-Origin")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	if r.URL.Path == statusPath {
		serveText(w, r, "application/json", s.json)
		return nil
	}
	header.Set("Content-Security-Policy", status.Policy())
	serveText(w, r, "text/html; charset=utf-8", s.page)
	return nil
}

// look returns what there is to see, as it was a moment ago.
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
	page, err := all.HTML()
	if err != nil {
		return sight{}, err
	}
	text, err := all.JSON()
	if err != nil {
		return sight{}, err
	}
	p.seen = sight{page, text}
	p.next = time.Now().Add(max(statusEvery, statusRest*time.Since(begun)))
	return p.seen, nil
}

// all looks at everything.
func (p *statusPage) all(now time.Time) (status.Status, error) {
	h := p.handler
	s := status.Status{Role: p.opts.Role, Build: p.opts.Build, Time: now.UTC(), Started: p.started}
	why := h.unready()
	s.Ready, s.NotReady = why == nil, status.Text(why)
	// The board comes first: what is put on the disk meanwhile is seen on it.
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
	s.Versions, s.MoreVersions = p.versions(now, arriving, listed, usage.Held)
	s.Downloads, s.MoreDownloads = p.readers.downloads(now)
	if p.opts.Upstreams != nil {
		s.Upstreams = p.opts.Upstreams()
	}
	p.flows(now, &s)
	return s, nil
}

// flows adds what is counted.
func (p *statusPage) flows(now time.Time, s *status.Status) {
	traffic := p.handler.metrics.Traffic()
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.meters) - 1
	s.Throughput = status.Throughput{Sent: p.meters[last].Speed(now, traffic.Sent), Samples: p.history.Samples(now)}
	all := received(traffic)
	if all != nil {
		s.Throughput.Received = new(int64)
	}
	if p.handler.swarm != nil {
		from, to := p.meters[last-2].Speed(now, traffic.FromPeers), p.meters[last-1].Speed(now, traffic.ToPeers)
		s.Swarm = &status.Swarm{
			Peers: max(p.handler.members.Count(), 0), Received: traffic.FromPeers, ReceivedSpeed: from, Sent: traffic.ToPeers, SentSpeed: to,
		}
		if all != nil {
			*s.Throughput.Received += from
			s.Swarm.Share = float64(traffic.FromPeers) / float64(max(*all, 1))
		}
	}
	for i, total := range traffic.Received {
		speed := p.meters[i].Speed(now, total)
		*s.Throughput.Received += speed
		if i < len(s.Upstreams) {
			s.Upstreams[i].Received, s.Upstreams[i].Speed = total, speed
			s.Upstreams[i].Share = float64(total) / float64(max(*all, 1))
		}
	}
}

// versions returns what is said of the newest versions, the newest first, and how many
// older ones there are. Of the same version what is arriving counts, for it comes in place
// of what is held.
func (p *statusPage) versions(now time.Time, arriving []*relay.Version, listed, held []distfile.Entry) (shown []status.Version, more int) {
	say := make(map[shard.Version]func() status.Version)
	known := make(map[shard.Version]heldVersion)
	for _, e := range held {
		say[e.Version] = func() status.Version {
			v := p.heldVersion(now, e)
			known[e.Version] = v
			return v.Version
		}
	}
	for _, e := range listed {
		say[e.Version] = func() status.Version {
			return status.Version{Version: e.Version.String(), State: status.Waiting, Digest: e.Digest.String()}
		}
	}
	for _, v := range arriving {
		say[v.Entry.Version] = func() status.Version { return arrivingStatus(v) }
	}
	shown = []status.Version{}
	for _, v := range slices.Backward(slices.Sorted(maps.Keys(say))) {
		if len(shown) == status.MaxVersions {
			break
		}
		shown = append(shown, say[v]())
	}
	p.held = known
	return shown, len(say) - len(shown)
}

// arrivingStatus returns what is said of a version that is arriving.
func arrivingStatus(v *relay.Version) status.Version {
	m := v.Manifest
	s := status.Version{
		Version: v.Entry.Version.String(), State: status.Arriving,
		Name: m.Name, Date: m.Date.UTC(), Size: &m.Size, ShardSize: m.ShardSize, Digest: knownDigest(m.Digest),
	}
	s.Add(len(m.Shards), func(yield func(status.Shard) bool) {
		number := 0
		for e := range v.Extents() {
			number++
			if !yield(status.Shard{Here: e.Verified, Begun: e.Begun, Size: m.Shard(number).Size, Bytes: e.Bytes}) {
				return
			}
		}
	})
	return s
}

// heldVersion is what was seen of a version that is held.
type heldVersion struct {
	status.Version

	entry     distfile.Entry
	manifest  os.FileInfo // nil if there is none
	directory os.FileInfo // likewise
	since     time.Time   // when the directory was first seen like that
}

// heldVersion returns what there is of e. Its files are looked at only when its directory
// looks different.
func (p *statusPage) heldVersion(now time.Time, e distfile.Entry) heldVersion {
	st := p.handler.store
	v := heldVersion{entry: e, since: now}
	v.directory, _ = st.StatVersion(e.Version)
	f, err := st.Manifest(e.Version)
	if err == nil {
		defer f.Close()
		v.manifest, _ = f.Stat()
	}
	if old, ok := p.held[e.Version]; ok && old.entry == e && isSame(old.directory, v.directory) && isSame(old.manifest, v.manifest) {
		if now.Sub(old.since) > settleTime {
			return old
		}
		v.since = old.since
	}
	var m shard.Manifest
	if v.manifest != nil {
		if m, err = shard.ParseManifest(f); err != nil {
			m = shard.Manifest{}
		}
	}
	numbers, _ := st.Shards(e.Version)
	v.Version = heldStatus(e, m, numbers)
	return v
}

// isSame reports whether two files that may be missing are the same.
func isSame(a, b os.FileInfo) bool {
	return a == nil && b == nil || a != nil && b != nil && sameFile(a, b)
}

// heldStatus returns what is said of e, of which there are the shards with those numbers.
// Its manifest is zero if there is none.
func heldStatus(e distfile.Entry, m shard.Manifest, numbers []int) status.Version {
	s := status.Version{Version: e.Version.String(), State: status.Here, Digest: e.Digest.String()}
	count := max(e.Count, 0)
	if m.Digest != (shard.Digest{}) {
		s.Name, s.Date, s.Size, s.ShardSize, s.Digest = m.Name, m.Date.UTC(), &m.Size, m.ShardSize, m.Digest.String()
		count = len(m.Shards)
	} else if count == 0 && len(numbers) > 0 {
		count = slices.Max(numbers) // those that there are tell it
	}
	count = min(count, shard.MaxShards)
	here := make([]bool, count)
	for _, number := range numbers {
		if number <= count {
			here[number-1] = true
		}
	}
	s.Add(count, func(yield func(status.Shard) bool) {
		for i := range here {
			one := status.Shard{Here: here[i]}
			if m.Shards != nil {
				one.Size = m.Shard(i + 1).Size
			}
			if one.Here {
				one.Bytes = one.Size
			}
			if !yield(one) {
				return
			}
		}
	})
	if s.Missing > 0 || count == 0 && s.Size == nil {
		s.State = status.Damaged
	}
	return s
}

// knownDigest returns d as text, or nothing if it is not known.
func knownDigest(d shard.Digest) string {
	if d == (shard.Digest{}) {
		return ""
	}
	return d.String()
}
