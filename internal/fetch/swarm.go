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

	// peerTimeout is how long a peer may send nothing, and peerFirst how much longer before
	// its first byte. After that, and all else that it should not do, it is left alone for
	// peerPause, and each time again twice as long, up to 16 times that.
	peerTimeout = 5 * time.Second
	peerFirst   = 3 * time.Second
	peerPause   = 5 * time.Second

	// lessForRelays is by how much shorter it is for one that breaks off what it was passing on:
	// that need not be its fault, and it may have much else.
	lessForRelays = 32

	// peerBusy is how soon a peer says that it is busy if it is not to count as one that
	// sends nothing. Peers that are busy, or do not have what they told of, are asked again
	// shortly.
	peerBusy = 3 * time.Second

	// peersPatience is the time after which a shard that peers were asked for in vain comes
	// from upstream.
	peersPatience = 10 * time.Second

	// mostBusy is how often in a row a peer may be busy that has done what it was asked
	// before, until it counts as one that sends nothing.
	mostBusy = 16

	// mostDoubled is how often the wait for upstreams that are busy is doubled.
	mostDoubled = 3

	// haveTimeout is how long a node that tells what it has may say nothing at all.
	// havePause is the least time between two of its lines, and havePauseShard what that is
	// for a version of many shards, by each of them: to read a line takes longer then.
	haveTimeout    = 6 * time.Second
	havePause      = 20 * time.Millisecond
	havePauseShard = 20 * time.Microsecond

	// deafAfter is how often a peer may fail to tell what it has before others are taken in
	// its place.
	deafAfter = 3

	// readerWorkers is how many shards a node brings at the same time that nobody can get
	// at, while it has neighbours.
	readerWorkers = 3

	// behindWorkers is how many shards of a version are brought at the same time while a
	// newer one comes.
	behindWorkers = 2

	// mostParts is how many places stay open of shards that have begun to come and that
	// nobody brings.
	mostParts = 32
)

// Swarm takes part in the swarms of the upstreams until ctx ends: it tells them that
// others can get at this node by the port of at, and asks who else is there. Fetches that
// relay what they bring use what it finds, if the options say Swarm.
func (p *Pool) Swarm(ctx context.Context, at net.Addr) {
	port := 0 // which nobody can get at
	if tcp, ok := at.(*net.TCPAddr); ok {
		port = tcp.Port
	}
	p.each(ctx, func(ctx context.Context, u *upstream) {
		defer p.meet(u, nil, swarm.Reader)
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
	var at netip.Addr // nowhere if there is a proxy between: where that is says nothing of u
	direct := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(hostPort string) { direct = hostPort == hostOf(u.url) },
		GotConn: func(info httptrace.GotConnInfo) {
			if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok && direct {
				at = tcp.AddrPort().Addr().Unmap()
			}
		},
	})
	body, err := p.get(ctx, u, request{path: []string{swarm.PeersName}, header: map[string]string{swarm.PeerHeader: strconv.Itoa(port)}})
	if err != nil {
		return err
	}
	defer body.Close()
	p.meet(u, swarm.ParsePeers(body, at, p.opts.SwarmAllow), swarm.Standing(body.header.Get(swarm.PeerHeader)))
	return nil
}

// hostOf returns where the server at a URL is.
func hostOf(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

// meet notes whom u tells of, and what has become of this node there. Of those that were told
// of before and can be heard some stay, see [swarm.Stay].
func (p *Pool) meet(u *upstream, told []*url.URL, standing swarm.Standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u.standing = standing
	heard := slices.DeleteFunc(slices.Clone(u.peers), func(peer *upstream) bool { return peer.deaf >= deafAfter })
	peers := swarm.Stay(heard, len(told))
	for _, at := range told {
		if len(peers) == swarm.MaxPeers {
			break
		}
		if peer := p.peer(at); peer != nil && !slices.Contains(peers, peer) {
			peers = append(peers, peer)
		}
	}
	slices.SortFunc(peers, func(a, b *upstream) int { return a.index - b.index }) // told of in any order
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
	if slices.ContainsFunc(all, func(u *upstream) bool { return !u.peer && hostOf(u.url) == at.Host }) {
		return nil
	}
	known := 0
	var forgotten *upstream
	for _, u := range all {
		switch {
		case !u.peer:
			continue
		case u.name == name:
			return u
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

// isReader reports whether nobody can get at this node: upstreams say so, and none
// lists it or has yet to try.
func (p *Pool) isReader() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	said := false
	for _, u := range p.all() {
		switch u.standing {
		case swarm.Pending, swarm.Listed:
			return false
		case swarm.Unreachable, swarm.Refused:
			said = true
		case swarm.Reader: // it says nothing
		}
	}
	return said
}

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
	ready chan struct{} // closed when neighbours have been joined

	mu      sync.Mutex // guards what follows
	picker  *swarm.Picker
	met     int                // neighbours, ever
	nodes   map[int]*neighbour // those that there are, by their numbers
	under   int                // shards that are being brought
	right   int                // shards that are there
	parts   map[int]*arrival   // shards that have begun to come, and nobody brings
	since   map[int]time.Time  // when a neighbour was asked for the first time for what has not come
	changed chan struct{}      // closed and replaced when there may be something else to do

	later    time.Time // when an upstream may be asked
	sentAway int       // how often one said in a row that it is busy
	attempts int       // that have failed with all upstreams
	received int64     // [Pool.received] when the last one did
}

// neighbour is a node that shards are swapped with.
type neighbour struct {
	*upstream

	number int                // in the picker
	stop   context.CancelFunc // hearing it

	// What follows changes, under the swarming's mu.
	under  int       // shards that it is asked for
	sound  bool      // it has done what it was asked last, unless it was busy
	busy   int       // how often it was in a row
	later  time.Time // when it may be asked
	fails  int       // in a row
	failed time.Time // the last time
}

// newSwarming returns nil where a fetch is in no swarm. It is one of the pool's until it is
// over.
func (f *fetching) newSwarming() *swarming {
	if !f.opts.Swarm || !f.relay || f.source == nil {
		return nil
	}
	s := &swarming{
		fetching: f, start: time.Now(), ready: make(chan struct{}), changed: make(chan struct{}),
		picker: swarm.NewPicker(len(f.digests), rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
		nodes:  make(map[int]*neighbour), parts: make(map[int]*arrival), since: make(map[int]time.Time),
	}
	f.Pool.mu.Lock()
	defer f.Pool.mu.Unlock()
	f.swarms = append(f.swarms, s)
	return s
}

// over ends what newSwarming has begun. It may be called of none.
func (s *swarming) over() {
	if s == nil {
		return
	}
	s.Pool.mu.Lock()
	defer s.Pool.mu.Unlock()
	s.swarms = slices.DeleteFunc(s.swarms, func(o *swarming) bool { return o == s })
}

// hasNeighbours reports whether there are others who may want what comes. It may be called
// of none.
func (s *swarming) hasNeighbours() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.nodes) > 0
}

// arrived notes that one more shard is right. It may be called of none.
func (s *swarming) arrived() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.right++
}

// isBehind reports whether a newer version comes by the same pool.
func (s *swarming) isBehind() bool {
	s.Pool.mu.Lock()
	defer s.Pool.mu.Unlock()
	return slices.ContainsFunc(s.swarms, func(o *swarming) bool { return o.entry.Version > s.entry.Version })
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
	hearing := make(map[*upstream]*neighbour)
	for ready := s.ready; ; ready = nil {
		peers, changed := s.neighbours()
		for u, n := range hearing {
			if !slices.Contains(peers, u) {
				s.leave(n)
				delete(hearing, u)
			}
		}
		for _, u := range peers {
			if hearing[u] == nil && !s.refused.has(u) {
				within, stop := context.WithCancel(ctx)
				n := s.meetNode(u, stop)
				hearing[u] = n
				group.Go(func() {
					defer stop()
					s.hear(within, n.number, u)
				})
			}
		}
		if ready != nil {
			close(ready)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// meetNode begins to swap shards with a node of which nothing is known. Stop ends the
// hearing of it.
func (s *swarming) meetNode(u *upstream, stop context.CancelFunc) *neighbour {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &neighbour{upstream: u, number: s.met, stop: stop}
	s.met++
	s.nodes[n.number] = n
	s.picker.Join(n.number)
	return n
}

// leave ends that.
func (s *swarming) leave(n *neighbour) {
	n.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, n.number)
	s.picker.Leave(n.number)
	s.wake()
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
		path: []string{s.entry.Version.String(), swarm.HaveName}, digest: s.manifest.Digest, timeout: haveTimeout, trickles: true,
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
		if err := sleep(ctx, max(havePause, havePauseShard*time.Duration(len(s.digests))), nil); err != nil {
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
	<-s.ready // or all would be taken from upstream, as if there were no neighbours
	buf, _ := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for {
		pick, n, err := s.take(ctx, *buf)
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
func (s *swarming) take(ctx context.Context, buf []byte) (swarm.Pick, *neighbour, error) {
	for {
		if err := s.checkOverdue(ctx, buf); err != nil {
			return swarm.Pick{}, nil, err
		}
		reader, behind := s.isReader(), s.isBehind()
		s.mu.Lock()
		s.hearWanted()
		changed := s.changed
		pick, from, next := s.choose(reader, behind)
		over := s.right == len(s.digests)
		s.mu.Unlock()
		if pick.Shard > 0 || over {
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

// checkOverdue checks what waits for its turn, once others may want it at once.
func (s *swarming) checkOverdue(ctx context.Context, buf []byte) error {
	for s.inOrder != nil && s.hasNeighbours() {
		a := s.inOrder.overdue()
		if a == nil {
			return nil
		}
		again, err := a.check(ctx, buf)
		if err == nil && again != nil {
			err = s.lost(again.arrival)
		}
		if err != nil {
			return fmt.Errorf("shard %d: %w", a.shard.Number, err)
		}
	}
	return nil
}

// lost leaves a, of which the picker believes that it is there, to be picked again.
func (s *swarming) lost(a *arrival) error {
	if err := s.putBack(a); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.picker.Lost(a.shard.Number)
	s.wake()
	return nil
}

// hearWanted notes what others have begun to wait for. The caller holds mu.
func (s *swarming) hearWanted() {
	for {
		select {
		case number := <-s.sink.Wanted():
			s.picker.Ask(number)
		default:
			return
		}
	}
}

// workers is how many shards are brought at the same time. The caller holds mu.
func (s *swarming) workers(behind bool) int {
	workers := s.opts.Concurrency
	if s.picker.Reader {
		workers = min(workers, readerWorkers)
	}
	if behind {
		workers = min(workers, behindWorkers)
	}
	return workers
}

// trials is how many neighbours are asked for that have not done what they were asked
// last. The caller holds mu.
func (s *swarming) trials() (shards int) {
	for _, n := range s.nodes {
		if !n.sound {
			shards += n.under
		}
	}
	return shards
}

// choose picks something to do, or none, and says when to look again then. Of neighbours
// that have not done what they were asked last, each is asked for one shard at a time, and
// workers are left for upstream: whoever sends nothing can hold up no more than the
// others. The caller holds mu.
func (s *swarming) choose(reader, behind bool) (pick swarm.Pick, from *neighbour, next time.Time) {
	now := time.Now()
	next = now.Add(time.Second)
	s.picker.Reader = reader && len(s.nodes) > 0
	workers := s.workers(behind)
	if s.under >= workers {
		return pick, nil, next
	}
	trials := s.trials()
	pick, ok := s.picker.Next(func(number int) bool {
		later := s.later
		if number != swarm.Upstream {
			n := s.nodes[number]
			if !n.sound && (n.under > 0 || trials >= max(1, workers-swarm.UpstreamAtOnce)) {
				return false
			}
			later = n.later
		}
		if later.After(now) && later.Before(next) {
			next = later
		}
		return !later.After(now)
	})
	switch {
	case !ok:
		return pick, nil, next
	case pick.As == swarm.AsSpare && now.Sub(s.lastByte(s.start)) >= peerTimeout:
		pick.As = swarm.AsUpstream
	}
	s.under++
	if pick.Node != swarm.Upstream {
		from = s.nodes[pick.Node]
		from.under++
		if s.since[pick.Shard].IsZero() {
			s.since[pick.Shard] = now
		}
	}
	return pick, from, next
}

// bring brings what was picked, or as much as comes, and leaves the rest to be picked
// again.
func (s *swarming) bring(ctx context.Context, pick swarm.Pick, from *neighbour, buf []byte) error {
	a, err := s.openPart(pick.Shard, buf)
	if err != nil {
		return local{err}
	}
	a.as = pick.As
	err = s.bringSpans(ctx, a, from, buf)
	whole := false
	var wrong *arrival
	if err == nil {
		var again *span
		if again, err = a.finish(ctx, buf); again != nil {
			wrong = again.arrival // or another one, whose turn it was
		}
		whole = err == nil && wrong != a
	}
	if from != nil && s.refused.has(from.upstream) {
		s.leave(from)
	}
	switch {
	case wrong == a, errors.As(err, new(dropped)):
		err = s.putBack(a)
	case wrong != nil:
		err = s.lost(wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended(pick, from, whole)
	return err
}

// ended notes that what was picked is not brought any more, or there. The caller holds mu.
func (s *swarming) ended(pick swarm.Pick, from *neighbour, whole bool) {
	s.under--
	if from != nil {
		from.under--
	}
	if whole {
		s.picker.Done(pick)
		delete(s.since, pick.Shard)
	} else {
		s.picker.Drop(pick)
		if from != nil && !from.sound && time.Since(s.since[pick.Shard]) >= peersPatience {
			s.picker.Need(pick.Shard)
		}
		if s.sink.Asked(pick.Shard) {
			s.picker.Ask(pick.Shard) // who waits for what is begun says so no more
		}
	}
	s.wake()
}

// putBack leaves a to be picked again. What nothing has come of is closed, and where too
// many would stay open what has come is forgotten: places may be files. What was wrong
// stays, with what is known of who is to blame.
func (s *swarming) putBack(a *arrival) error {
	a.place.From(false)
	fetched := int64(0)
	for _, o := range a.owners {
		fetched += o.To - o.From
	}
	s.mu.Lock()
	if keep := a.wrongs > 0 || fetched+a.present > 0 && len(s.parts) < mostParts; keep {
		s.parts[a.shard.Number] = a
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	s.tally.wrong(a.present, fetched)
	if fetched > 0 {
		a.place.Forget()
	}
	s.fetching.mu.Lock()
	delete(s.open, a)
	s.fetching.mu.Unlock()
	if err := a.place.Close(); err != nil {
		return local{err}
	}
	return nil
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
	if len(a.spans) > 0 && a.byItself {
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
	start := time.Now()
	s.Pool.mu.Lock()
	n.transfers++
	s.Pool.mu.Unlock()
	err := s.transfer(ctx, of, n.upstream, false, buf)
	s.release(n.upstream, err)
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	if errors.As(err, new(local)) {
		return err
	}
	later := busy{}
	busySoon := errors.As(err, &later) && time.Since(start) < peerBusy // as is whoever has much to give
	s.mu.Lock()
	switch {
	case err == nil:
		n.sound, n.fails, n.busy = true, 0, 0
	case busySoon:
		n.busy++
		n.sound = n.sound && n.busy < mostBusy
	default:
		n.sound = false
	}
	s.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case busySoon:
		s.putOffNode(n, max(later.wait, shortly()))
	case errors.Is(err, fs.ErrNotExist):
		s.told(n.number, []swarm.Change{{State: swarm.Missing, From: of.shard.Number, To: of.shard.Number}})
		s.putOffNode(n, shortly()) // it may tell of it again at once
	case errors.As(err, new(refusal)):
		s.blame(ctx, s.quest(), n.upstream, err)
	default:
		s.judge(ctx, s.quest(), n.upstream, err)
		wait := s.failedAt(n, start)
		if errors.As(err, new(interrupted)) {
			wait /= lessForRelays
		}
		s.putOffNode(n, wait)
	}
	return dropped{err}
}

// shortly is when somebody is asked again whose slots are taken.
func shortly() time.Duration { return time.Duration(30+rand.IntN(70)) * time.Millisecond }

// failedAt notes that n has failed with what it was asked for at start, and returns how long
// to leave it alone. What it was asked for before it failed the last time fails with that.
func (s *swarming) failedAt(n *neighbour, start time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if start.Before(n.failed) {
		return 0
	}
	n.failed = time.Now()
	n.fails++
	return peerPause << min(n.fails-1, 4)
}

// putOffNode has n not asked for a while.
func (s *swarming) putOffNode(n *neighbour, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if later := time.Now().Add(wait); later.After(n.later) {
		n.later = later
	}
}

// fromUpstream brings the rest of a span from an upstream. Its errors that are no dropped
// are those of [Pool.retry].
func (s *swarming) fromUpstream(ctx context.Context, of *span, buf []byte) error {
	q := s.quest()
	var notNow error
	q.try = func(u *upstream) error {
		err := s.transfer(ctx, of, u, false, buf)
		var code status
		later := busy{}
		switch {
		case errors.As(err, &code) && code == http.StatusConflict && of.as == swarm.AsFresh:
			s.told(swarm.Upstream, []swarm.Change{{State: swarm.Sent, From: of.shard.Number, To: of.shard.Number}})
		case errors.As(err, &later) && later.wait == 0 && time.Since(s.lastByte(s.start)) < busyPatience:
			s.putOffUpstreams()
		default:
			return err
		}
		notNow = err
		return nil
	}
	failed, got, err := s.attempt(ctx, q)
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case notNow != nil:
		return dropped{notNow}
	case err == nil:
		s.mu.Lock()
		s.attempts, s.sentAway, s.later = 0, 0, time.Time{} // what it has sent has freed a slot
		s.mu.Unlock()
		return nil
	case !errors.Is(err, errNobody):
		return err
	case got:
		return dropped{err}
	case len(failed) > 0:
		return s.failed(ctx, q, failed)
	}
	return s.nobody(ctx, q)
}

// nobody is for there being no upstream to be asked now. While neighbours have something
// it counts as a failure of one, for they may go on.
func (s *swarming) nobody(ctx context.Context, q quest) error {
	wait, _ := s.wait(q)
	none := wait == 0 && !slices.ContainsFunc(s.all(), func(u *upstream) bool { return s.mayAsk(q, u) })
	s.mu.Lock()
	elsewhere := s.picker.Elsewhere()
	s.mu.Unlock()
	switch {
	case none && elsewhere:
		return s.failed(ctx, q, nil)
	case none, time.Since(s.lastByte(s.start)) >= busyPatience:
		return s.outcome(q, nil)
	}
	s.mu.Lock()
	s.later = time.Now().Add(max(wait, shortly()))
	s.mu.Unlock()
	return dropped{errNobody}
}

// outcome is the error for what upstreams do not bring.
func (s *swarming) outcome(q quest, failed []error) error {
	return outcome(q.entry, slices.Concat(failed, s.busy(q), q.refused.errors()))
}

// putOffUpstreams has upstreams not asked for a while, as one has no slot: the longer the
// more often that was so.
func (s *swarming) putOffUpstreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.later = time.Now().Add(shortly() << min(s.sentAway, mostDoubled))
	s.sentAway++
}

// failed notes that an attempt with all upstreams has failed. As long as anything comes
// from anybody it is the first one.
func (s *swarming) failed(ctx context.Context, q quest, errs []error) error {
	err := s.outcome(q, errs)
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
		return err
	}
	_ = s.Refresh(ctx, Soon) // it has logged who is down
	return dropped{err}
}

// hopeless returns the slowest transfer from a neighbour when for five seconds all that
// comes was far less than what one transfer from upstream used to bring, and upstream may be
// asked. The caller holds the fetching's mu.
func (s *swarming) hopeless() (slowest *transfer) {
	s.mu.Lock()
	down := s.attempts > 0 || s.later.After(time.Now())
	s.mu.Unlock()
	usual := 0.0
	present, _ := s.present()
	for _, u := range present {
		usual = max(usual, s.rank.Throughput(u.index))
	}
	if down || s.tally.speed() >= crawl*usual {
		return nil
	}
	for t := range s.transfers {
		if t.upstream.peer && !t.given && t.pace.count >= recent && (slowest == nil || t.pace.speed() < slowest.pace.speed()) {
			slowest = t
		}
	}
	return slowest
}

// lagging returns the transfer from a neighbour that takes longest, if it holds up the end:
// all shards have begun to come, and what it has yet to bring would come in less than half
// the time from others, and half a second, as they send. The caller holds the fetching's mu.
func (s *swarming) lagging() (longest *transfer) {
	s.mu.Lock()
	begun := !s.picker.Wanting()
	s.mu.Unlock()
	if !begun {
		return nil
	}
	most := 0.0
	for t := range s.transfers {
		others := s.peers(t)
		if !t.upstream.peer || t.given || t.pace.count < knownAfter || len(others) == 0 {
			continue
		}
		left := t.left()
		elsewhere := left * max(t.pace.speed(), 1) / max(median(others), 1)
		if left >= helpAfter.Seconds()+2*elsewhere && left > most {
			longest, most = t, left
		}
	}
	return longest
}

// header is what is said beside a request for a shard.
func (s *swarming) header(t *transfer, header map[string]string) map[string]string {
	if t.upstream.peer {
		delete(header, tierHeader) // a peer is as far from the origin as we are
		header["Prefer"] = fmt.Sprintf("wait=%d", int((peerTimeout - time.Second).Seconds()))
	}
	header[swarm.AskHeader] = t.as
	return header
}
