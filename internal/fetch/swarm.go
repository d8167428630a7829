package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/swarm"
)

const (
	// peersEvery is how often an upstream is asked for peers; at first it is sooner.
	peersEvery = 5 * time.Second
	peersFirst = 100 * time.Millisecond

	// mostKnown is how many nodes are remembered.
	mostKnown = 256

	// swarmHeader says, in a request for a shard, that a node of a swarm asks, and how:
	// see package server.
	swarmHeader = "Shardcast-Swarm"
	asPeer      = "peer"
	asUpstream  = "upstream"
	asFresh     = "fresh"

	// peerTimeout is how long a peer may send nothing, and peerFirst how much longer before
	// its first byte. After that, and all else that it should not do, it is left alone for
	// peerPause, and each time again twice as long, up to 16 times that.
	peerTimeout = 5 * time.Second
	peerFirst   = 3 * time.Second
	peerPause   = 5 * time.Second

	// haveTimeout is how long a node that tells what it has may say nothing at all, and
	// havePause the least time between two of its lines.
	haveTimeout = 6 * time.Second
	havePause   = 20 * time.Millisecond

	// deafAfter is how often a peer may fail to tell what it has before others are taken in
	// its place.
	deafAfter = 3
)

// Swarm takes part in the swarms of the upstreams until ctx ends: it tells them that
// others can get at this node by the port of at, and asks who
// else is there. Fetches that relay what they bring use what it finds.
func (p *Pool) Swarm(ctx context.Context, at net.Addr) {
	port := 0 // which nobody can get at
	if tcp, ok := at.(*net.TCPAddr); ok {
		port = tcp.Port
	}
	p.each(ctx, func(ctx context.Context, u *upstream) {
		defer p.meet(u, nil)
		for wait := peersFirst; ; wait = min(2*wait, peersEvery) {
			if err := p.askPeers(ctx, u, port); err != nil && ctx.Err() == nil {
				p.opts.Logger.Debug("no peers are told", "upstream", u.name, "err", err)
			}
			if sleep(ctx, aQuarter(wait), nil) != nil {
				return
			}
		}
	})
}

// askPeers asks u who else follows it.
func (p *Pool) askPeers(ctx context.Context, u *upstream, port int) error {
	var at netip.Addr
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
			at = tcp.AddrPort().Addr().Unmap()
		}
	}})
	body, err := p.get(ctx, u, request{path: []string{swarm.PeersName}, header: map[string]string{swarm.PeerHeader: strconv.Itoa(port)}})
	if err != nil {
		return err
	}
	defer body.Close()
	p.meet(u, swarm.ParsePeers(body, at, p.opts.SwarmAllow))
	return nil
}

// meet notes whom u tells of. Those that were told of before and can be heard stay, if
// these may not be all.
func (p *Pool) meet(u *upstream, told []*url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var peers []*upstream
	if len(told) >= swarm.MaxPeers {
		peers = slices.DeleteFunc(slices.Clone(u.peers), func(peer *upstream) bool { return peer.deaf >= deafAfter })
	}
	for _, at := range told {
		if len(peers) == swarm.MaxPeers {
			break
		}
		if peer := p.peer(at); peer != nil && !slices.Contains(peers, peer) {
			peers = append(peers, peer)
		}
	}
	if !slices.Equal(peers, u.peers) {
		u.peers = peers
		close(p.joined)
		p.joined = make(chan struct{})
	}
}

// peer returns the node at a URL, or nil if that is an upstream anyhow. It is none for
// whoever does not know of swarms: it offers nothing. The caller holds mu.
func (p *Pool) peer(at *url.URL) *upstream {
	name := at.Redacted()
	all := p.all()
	for _, u := range all {
		switch {
		case u.name == name && u.peer:
			return u
		case u.name == name:
			return nil
		}
	}
	known := 0
	var forgotten *upstream
	for _, u := range all {
		if !u.peer {
			continue
		}
		known++
		if u.transfers == 0 && !slices.ContainsFunc(all, func(o *upstream) bool { return slices.Contains(o.peers, u) }) {
			forgotten = u
		}
	}
	peer := &upstream{url: at, index: len(all), number: noNumber, name: name, peer: true, gone: true}
	p.joining.Lock()
	defer p.joining.Unlock()
	p.upstreams = slices.Clone(p.upstreams) // who has the old ones keeps them
	if known >= mostKnown && forgotten != nil {
		peer.index = forgotten.index
		p.upstreams[peer.index] = peer
		p.rank.forget(peer.index)
	} else {
		p.rank.grow(len(all) + 1)
		p.upstreams = append(p.upstreams, peer)
	}
	return peer
}

// noNumber is the number of a node that was not configured.
const noNumber = -1

// neighbours returns the nodes to swap shards with, and what is closed when they are
// others.
func (p *Pool) neighbours() (peers []*upstream, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.all() {
		for _, peer := range u.peers {
			if len(peers) < swarm.MaxPeers && !slices.Contains(peers, peer) {
				peers = append(peers, peer)
			}
		}
	}
	return peers, p.joined
}

// swarming is what a fetch in a swarm has beside that of its own.
type swarming struct {
	*fetching

	start time.Time

	mu      sync.Mutex // guards what follows
	picker  *swarm.Picker
	nodes   []*neighbour
	parts   map[int]*arrival // shards that have begun to come, and nobody brings
	changed chan struct{}    // closed and replaced when there may be something else to do

	later    time.Time // when an upstream may be asked
	attempts int       // that have failed with all upstreams
	received int64     // [Pool.received] when the last one did
}

// neighbour is a node that shards are swapped with.
type neighbour struct {
	*upstream

	number int // in the picker
	gone   bool
	later  time.Time // when it may be asked
	fails  int       // in a row
}

// newSwarming returns nil where a fetch is in no swarm.
func (f *fetching) newSwarming() *swarming {
	if !f.opts.Swarm || !f.relay || f.source == nil || f.cut != nil {
		return nil
	}
	return &swarming{
		fetching: f, start: time.Now(), parts: make(map[int]*arrival), changed: make(chan struct{}),
		picker: swarm.NewPicker(len(f.digests), rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
	}
}

// wake has workers look for something to do. The caller holds mu.
func (s *swarming) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// listen hears what neighbours have, and upstreams have sent, until ctx ends.
func (s *swarming) listen(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Go(func() {
		s.each(ctx, func(ctx context.Context, u *upstream) { s.hear(ctx, swarm.Upstream, u) })
	})
	hearing := make(map[*upstream]func())
	for {
		peers, changed := s.neighbours()
		for u, leave := range hearing {
			if !slices.Contains(peers, u) {
				leave()
				delete(hearing, u)
			}
		}
		for _, u := range peers {
			if hearing[u] == nil && !s.refused.has(u) {
				n := s.meetNode(u)
				within, stop := context.WithCancel(ctx)
				hearing[u] = func() {
					stop()
					s.leave(n)
				}
				group.Go(func() { s.hear(within, n.number, u) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// meetNode begins to swap shards with a node of which nothing is known.
func (s *swarming) meetNode(u *upstream) *neighbour {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &neighbour{upstream: u, number: len(s.nodes)}
	s.nodes = append(s.nodes, n)
	s.picker.Join(n.number)
	return n
}

// leave ends that.
func (s *swarming) leave(n *neighbour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.gone {
		n.gone = true
		s.picker.Leave(n.number)
		s.wake()
	}
}

// hear hears what u has, again and again until ctx ends.
func (s *swarming) hear(ctx context.Context, number int, u *upstream) {
	for {
		wait := time.Second
		if err := s.hearOnce(ctx, number, u); err != nil && ctx.Err() == nil {
			s.opts.Logger.Debug("what a node has is not told", "version", s.entry.Version.String(), "node", u.name, "err", err)
			if errors.Is(err, swarm.ErrHave) || errors.Is(err, bufio.ErrTooLong) {
				wait = time.Minute
			}
		}
		s.told(number, []swarm.Change{{State: swarm.Missing, From: 1, To: len(s.digests)}})
		if sleep(ctx, aQuarter(wait), nil) != nil {
			return
		}
	}
}

// hearOnce hears what u has until it tells no more.
func (s *swarming) hearOnce(ctx context.Context, number int, u *upstream) error {
	body, err := s.get(ctx, u, request{
		path: []string{s.entry.Version.String(), swarm.Path}, digest: s.manifest.Digest, timeout: haveTimeout, trickles: true,
	})
	s.Pool.mu.Lock()
	if u.deaf++; err == nil || errors.Is(err, fs.ErrNotExist) {
		u.deaf = 0
	}
	s.Pool.mu.Unlock()
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, swarm.MaxLine(len(s.digests)))
	for lines.Scan() {
		changes, err := swarm.ParseLine(lines.Text(), len(s.digests))
		if err != nil {
			return err
		}
		s.told(number, changes)
		if err := sleep(ctx, havePause, nil); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (s *swarming) told(number int, changes []swarm.Change) {
	if len(changes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		s.picker.Told(number, c)
	}
	s.wake()
}

// work brings shards until all have come.
func (s *swarming) work(ctx context.Context) error {
	buf, _ := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for {
		pick, n, err := s.take(ctx)
		if err != nil || pick.Shard == 0 {
			return err
		}
		if err := s.bring(ctx, pick, n, *buf); err != nil {
			return fmt.Errorf("shard %d: %w", pick.Shard, err)
		}
	}
}

// take waits for something to do, and returns what, and from which neighbour if not from
// upstream. It is no shard if all have come.
func (s *swarming) take(ctx context.Context) (swarm.Pick, *neighbour, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		if s.picker.Left() == 0 {
			s.mu.Unlock()
			return swarm.Pick{}, nil, nil
		}
		now := time.Now()
		next := now.Add(time.Second)
		pick, ok := s.picker.Next(func(n int) bool {
			later := s.later
			if n != swarm.Upstream {
				later = s.nodes[n].later
			}
			if later.After(now) && later.Before(next) {
				next = later
			}
			return !later.After(now)
		})
		var from *neighbour
		if ok && pick.Node != swarm.Upstream {
			from = s.nodes[pick.Node]
		}
		s.mu.Unlock()
		if ok {
			return pick, from, nil
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-changed:
		case <-timer.C:
		case number := <-s.sink.Wanted():
			s.mu.Lock()
			s.picker.Ask(number)
			s.wake()
			s.mu.Unlock()
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return swarm.Pick{}, nil, context.Cause(ctx)
		}
	}
}

// bring brings what was picked, or as much as comes, and leaves the rest to be picked
// again.
func (s *swarming) bring(ctx context.Context, pick swarm.Pick, from *neighbour, buf []byte) error {
	a, err := s.openPart(pick.Shard, buf)
	if err != nil {
		return local{err}
	}
	a.fresh = pick.Fresh
	err = s.bringSpans(ctx, a, from, buf)
	whole := false
	if err == nil {
		var again *span
		again, err = a.finish(ctx, buf)
		whole = again == nil && err == nil
	}
	if from != nil && s.refused.has(from.upstream) {
		s.leave(from)
	}
	s.mu.Lock()
	if whole {
		s.picker.Done(pick)
	} else {
		a.place.From(false)
		s.parts[pick.Shard] = a
		s.picker.Drop(pick)
	}
	s.wake()
	s.mu.Unlock()
	if err == nil || errors.As(err, new(dropped)) {
		return nil
	}
	return err
}

// openPart goes on with what has come of a shard, or opens it.
func (s *swarming) openPart(number int, buf []byte) (*arrival, error) {
	s.mu.Lock()
	a := s.parts[number]
	delete(s.parts, number)
	s.mu.Unlock()
	if a != nil {
		return a, nil
	}
	of := s.manifest.Shard(number)
	of.Digest = s.digests[number-1]
	a, err := s.arrival(of)
	if err != nil {
		return nil, err
	}
	s.fetching.mu.Lock()
	s.open[a] = true
	s.fetching.mu.Unlock()
	if len(a.spans) > 0 {
		err = a.readBack(a.spans[0].at, buf)
	}
	return a, err
}

// dropped is why a shard is picked again.
type dropped struct{ error }

func (e dropped) Unwrap() error { return e.error }

// bringSpans brings what is missing of a, from a neighbour or from upstream. The error is
// a dropped if somebody else may have it.
func (s *swarming) bringSpans(ctx context.Context, a *arrival, from *neighbour, buf []byte) error {
	a.mu.Lock()
	spans := slices.DeleteFunc(slices.Clone(a.spans), func(of *span) bool { return of.over() })
	a.mu.Unlock()
	for _, of := range spans {
		var err error
		if from != nil {
			err = s.fromPeer(ctx, of, from, buf)
		} else {
			err = s.fromUpstream(ctx, of, buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromPeer brings the rest of a span from a neighbour.
func (s *swarming) fromPeer(ctx context.Context, of *span, n *neighbour, buf []byte) error {
	s.Pool.mu.Lock()
	n.transfers++
	s.Pool.mu.Unlock()
	err := s.transfer(ctx, of, n.upstream, false, buf)
	s.release(n.upstream, err)
	if err == nil {
		s.mu.Lock()
		n.fails = 0
		s.mu.Unlock()
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.As(err, new(local)) {
		return err
	}
	later := busy{}
	switch {
	case errors.As(err, &later):
		s.putOffNode(n, max(later.wait, shortly()))
	case errors.Is(err, fs.ErrNotExist):
		s.told(n.number, []swarm.Change{{State: swarm.Missing, From: of.shard.Number, To: of.shard.Number}})
	case errors.As(err, new(refusal)):
		s.blame(ctx, s.quest(of.shard.Number), n.upstream, err)
	default:
		s.judge(ctx, s.quest(of.shard.Number), n.upstream, err)
		s.mu.Lock()
		wait := peerPause << min(n.fails, 4)
		n.fails++
		s.mu.Unlock()
		s.putOffNode(n, wait)
	}
	return dropped{err}
}

// shortly is when somebody is asked again whose slots are taken.
func shortly() time.Duration { return time.Duration(30+rand.IntN(70)) * time.Millisecond }

func (s *swarming) putOffNode(n *neighbour, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.later = time.Now().Add(wait)
}

// fromUpstream brings the rest of a span from an upstream. Its errors that are no dropped
// are those of [Pool.retry].
func (s *swarming) fromUpstream(ctx context.Context, of *span, buf []byte) error {
	q := s.quest(of.shard.Number)
	u := s.pick(func(u *upstream) bool { return s.mayAsk(q, u) && s.free(u) })
	if u == nil {
		return s.nobody(q)
	}
	if !s.claim(u) {
		return dropped{errNobody}
	}
	had := s.sending(u)
	err := s.transfer(ctx, of, u, false, buf)
	defer func() { s.release(u, err) }()
	later := busy{}
	var code status
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, new(local)):
		return err
	case errors.As(err, &code) && code == http.StatusConflict:
		s.told(swarm.Upstream, []swarm.Change{{State: swarm.Sent, From: of.shard.Number, To: of.shard.Number}})
		return dropped{err}
	case errors.As(err, &later) && later.wait == 0:
		s.putOffUpstreams(shortly())
		return dropped{err}
	case errors.As(err, &later):
		later.error, later.had = err, had
		err = later
		s.judge(ctx, q, u, err)
		return dropped{err}
	}
	counts := s.judge(ctx, q, u, err)
	if !counts {
		return dropped{err}
	}
	return s.failed(ctx, q, err)
}

// nobody is for there being no upstream to be asked now.
func (s *swarming) nobody(q quest) error {
	wait, _ := s.wait(q)
	if wait == 0 && !slices.ContainsFunc(s.all(), func(u *upstream) bool { return s.mayAsk(q, u) }) ||
		time.Since(s.lastByte(s.start)) >= busyPatience {
		return outcome(q.entry, slices.Concat(s.busy(q), q.refused.errors()))
	}
	s.putOffUpstreams(max(wait, shortly()))
	return dropped{errNobody}
}

func (s *swarming) putOffUpstreams(wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.later = time.Now().Add(wait)
}

// failed notes that an attempt with an upstream has failed. As long as anything comes from
// anybody it is the first one.
func (s *swarming) failed(ctx context.Context, q quest, err error) error {
	s.mu.Lock()
	if s.later.After(time.Now()) {
		s.mu.Unlock()
		return dropped{err} // it is the same one
	}
	received := s.Pool.received.Load()
	if received != s.received {
		s.received, s.attempts = received, 0
	}
	s.attempts++
	attempts := s.attempts
	wait := s.opts.SlowWait
	if attempts <= s.opts.FastAttempts {
		wait = s.opts.FastWait
	}
	s.later = time.Now().Add(aQuarter(wait))
	s.mu.Unlock()
	if attempts >= s.opts.Attempts {
		return outcome(q.entry, slices.Concat([]error{err}, s.busy(q), q.refused.errors()))
	}
	_ = s.Refresh(ctx, Soon) // it has logged who is down
	return dropped{err}
}

// header is what is said beside a request for a shard.
func (s *swarming) header(t *transfer, header map[string]string) map[string]string {
	switch {
	case t.upstream.peer:
		delete(header, tierHeader) // a peer is as far from the origin as we are
		header["Prefer"] = fmt.Sprintf("wait=%d", int((peerTimeout - time.Second).Seconds()))
		header[swarmHeader] = asPeer
	case t.fresh:
		header[swarmHeader] = asFresh
	default:
		header[swarmHeader] = asUpstream
	}
	return header
}
