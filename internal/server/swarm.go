package server

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// swarmSlots is the number of shards that are sent to nodes of swarms at the same time,
	// and swarmQueue that of requests that may wait for a slot.
	swarmSlots = 8
	swarmQueue = 2

	// mostFollowers bounds the nodes that follow the server's shards at the same time, and
	// mostOfHost those of one host.
	mostFollowers = 256
	mostOfHost    = 64

	// maxSent bounds the versions of which sent shards are noted.
	maxSent = 16
)

var (
	// errNoSlot means that as many shards are being sent to nodes of swarms as may be.
	errNoSlot = errors.New("all slots for nodes of a swarm are taken")

	// errSent means that a shard is not fresh.
	errSent = errors.New("the shard has been sent to another node")
)

// swarming is the part of a server for nodes of the swarm that it is in, or above.
type swarming struct {
	catalog   *catalog.Catalog
	over      <-chan struct{} // closed when no request may be held any more
	slots     *slots.Slots
	sent      *ledger
	followers *followers
}

func newSwarming(c *catalog.Catalog, over <-chan struct{}) *swarming {
	return &swarming{
		catalog: c, over: over, slots: slots.New(swarmSlots, swarmQueue),
		sent:      &ledger{versions: make(map[shard.Version]*sent)},
		followers: &followers{hosts: make(map[netip.Prefix]int)},
	}
}

// asked are the ways in which nodes of swarms ask for shards.
var asked = []string{swarm.AsPeer, swarm.AsUpstream, swarm.AsFresh, swarm.AsSpare}

// admit has next answer nodes of swarms that have a slot, and all other clients. It returns
// errNoSlot without a slot, and errSent if a node asks for a fresh shard that was sent.
func (s *swarming) admit(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		as := r.Header.Get(wire.SwarmHeader)
		if r.Method != http.MethodGet || !slices.Contains(asked, as) {
			return next(w, r, t)
		}
		if as == swarm.AsFresh { // without having waited for a slot
			if v, err := s.catalog.Find(t.version); err == nil {
				_ = v.Close() // its manifest stays
				if !s.sent.isFresh(t, v.Manifest) {
					return errSent
				}
			}
		}
		conns.HoldLittle(r) // a slot is taken until all is sent, and not until all is written
		leave, ok := s.slots.Enter(r.Context(), readerOf(r), as == swarm.AsSpare)
		if !ok {
			return errNoSlot
		}
		defer leave()
		if as == swarm.AsPeer {
			return next(w, r, t)
		}
		v, err := s.catalog.Find(t.version)
		if err != nil {
			return next(w, r, t) // without a manifest nothing is noted
		}
		_ = v.Close() // its manifest stays
		ended, err := s.sent.begin(t, v.Manifest, as == swarm.AsFresh)
		if err != nil {
			return err
		}
		whole := &tallied{ResponseWriter: w}
		defer func() { ended(whole.bytes) }()
		return next(whole, r, t)
	}
}

// tallied counts the bytes of an answer.
type tallied struct {
	http.ResponseWriter

	bytes int64
}

// Unwrap is for [http.ResponseController].
func (c *tallied) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Write sends p, and counts it.
func (c *tallied) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom sends the bytes of src, which the next writer must see as they are for the kernel
// to send them.
func (c *tallied) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, src)
	c.bytes += n
	return n, err
}

// followers counts the requests that follow the shards here.
type followers struct {
	mu    sync.Mutex // guards what follows
	all   int
	hosts map[netip.Prefix]int
}

// enter counts one more of a host, until leave, and reports whether there may be one.
func (f *followers) enter(host netip.Prefix) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= mostFollowers || f.hosts[host] >= mostOfHost {
		return false
	}
	f.all++
	f.hosts[host]++
	return true
}

func (f *followers) leave(host netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.hosts[host]--; f.hosts[host] == 0 {
		delete(f.hosts, host)
	}
}

// have answers with the states of a version's shards, a line at a time as they change, see
// package swarm, until the version is retired or replaced.
func (s *swarming) have(w http.ResponseWriter, r *http.Request, t target) error {
	digest, err := shard.ParseDigest(r.URL.Query().Get(wire.DigestQuery))
	if err != nil {
		return fs.ErrNotExist
	}
	now, err := s.states(t.version, digest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect lines otherwise
	if r.Method == http.MethodHead {
		return nil
	}
	host := conns.HostOf(r.RemoteAddr)
	if !s.followers.enter(host) {
		return errNoSlot
	}
	defer s.followers.leave(host)
	out := http.NewResponseController(w)
	ticker := time.NewTicker(max(wire.HaveEvery, wire.HaveEveryShard*time.Duration(len(now))))
	defer ticker.Stop()
	var before []swarm.State
	var line []byte
	last := time.Now()
	for {
		line = swarm.AppendLine(line[:0], before, now)
		if len(line) > 1 || before == nil || time.Since(last) >= wire.HaveAlive {
			_, _ = w.Write(line) // the context ends with the connection
			_ = out.Flush()
			last = time.Now()
		}
		before = now
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return nil
		case <-s.over:
			return nil
		}
		if now, err = s.states(t.version, digest); err != nil {
			return nil //nolint:nilerr // the version is retired, or replaced
		}
	}
}

// states returns the state of each shard of a version. The error matches [fs.ErrNotExist]
// if the version is not here, or not of the file digest.
func (s *swarming) states(version shard.Version, digest shard.Digest) ([]swarm.State, error) {
	v, err := s.catalog.Find(version)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	if v.Manifest.Digest != digest {
		return nil, fs.ErrNotExist
	}
	states := make([]swarm.State, 0, len(v.Manifest.Shards))
	for e := range v.Extents() {
		switch {
		case e.Verified:
			states = append(states, swarm.Held)
		case e.Direct:
			states = append(states, swarm.Arriving)
		default:
			states = append(states, swarm.Missing)
		}
	}
	s.sent.mark(version, v.Manifest, states)
	return states, nil
}

// ledger notes which shards were sent to nodes.
type ledger struct {
	mu       sync.Mutex // guards what follows
	versions map[shard.Version]*sent
}

// sent are the shards of one version that were sent.
type sent struct {
	digest shard.Digest // of the file
	shards []bool
	under  map[int]int // the answers under way of a shard
}

// of returns the shards of a version with the manifest m, or nil.
func (l *ledger) of(v shard.Version, m shard.Manifest) *sent {
	if s := l.versions[v]; s != nil && s.digest == m.Digest && len(s.shards) == len(m.Shards) {
		return s
	}
	return nil
}

// begin notes that the shard of t, of a version with the manifest m, is being sent. It returns
// errSent if the shard is to be fresh, and was sent or is being sent. The caller calls ended
// with the number of bytes that were sent: a shard was sent when all of it was.
func (l *ledger) begin(t target, m shard.Manifest, fresh bool) (ended func(bytes int64), err error) {
	if t.number > len(m.Shards) {
		return func(int64) {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(t.version, m)
	if s == nil {
		for other := range l.versions {
			if len(l.versions) < maxSent {
				break
			}
			delete(l.versions, other) // at worst a shard is sent once more
		}
		s = &sent{m.Digest, make([]bool, len(m.Shards)), make(map[int]int)}
		l.versions[t.version] = s
	}
	if fresh && (s.shards[t.number-1] || s.under[t.number] > 0) {
		return nil, errSent
	}
	s.under[t.number]++
	return func(bytes int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.under[t.number]--; s.under[t.number] == 0 {
			delete(s.under, t.number)
		}
		if bytes >= m.Shard(t.number).Size {
			s.shards[t.number-1] = true
		}
	}, nil
}

// isFresh reports whether the shard of t, of a version with the manifest m, was sent to no
// node, and is not being sent.
func (l *ledger) isFresh(t target, m shard.Manifest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(t.version, m)
	return s == nil || t.number > len(s.shards) || !s.shards[t.number-1] && s.under[t.number] == 0
}

// mark turns the states of shards that were sent into that.
func (l *ledger) mark(version shard.Version, m shard.Manifest, states []swarm.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.of(version, m); s != nil {
		for i, is := range s.shards {
			if is {
				states[i] = swarm.Sent
			}
		}
	}
}
