package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
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

	// unsentInSwarm in bytes bounds what the kernel has not sent of an answer to a node: a slot is taken until
	// all but that is sent, and not until all is written. That was worth 5 % of the time of 24 nodes. With a
	// quarter of it a sender wakes up more often, for a tenth of the processor time of a byte.
	unsentInSwarm = 64 << 10

	// fewShards is the number of shards below which a version swaps slowly, where it has the bytes for more of the
	// least size of --shard-size auto.
	fewShards = 64

	// sharedFor is for how much of the time between two lines the nodes that follow a stream share a look
	// at its shards: a quarter. Up to mostLooks are remembered.
	sharedFor = 4
	mostLooks = 32
)

// errNoSlot means that as many shards are being sent to nodes of swarms as may be.
var errNoSlot = errors.New("all slots for nodes of a swarm are taken")

// swarming is the part of a server for nodes of the swarm that it is in, or above.
type swarming struct {
	catalog   *catalog.Catalog
	over      <-chan struct{} // closed when no request may be held any more
	slots     *slots.Slots
	sent      *slots.Ledger
	followers *slots.Followers
	logger    *slog.Logger // of a server that lists nodes to one another, or nil

	mu      sync.Mutex // guards what follows
	looks   map[slots.Stream]look
	advised shard.Version // the newest with few shards
}

// look is the states of the shards of a stream of a digest, as they were.
type look struct {
	digest shard.Digest
	at     time.Time
	states []swarm.State
}

func newSwarming(c *catalog.Catalog, over <-chan struct{}) *swarming {
	return &swarming{
		catalog: c, over: over, slots: slots.New(swarmSlots, swarmQueue),
		sent: slots.NewLedger(), followers: slots.NewFollowers(), looks: make(map[slots.Stream]look),
	}
}

// asked are the ways in which nodes of swarms ask for shards.
var asked = []string{swarm.AsPeer, swarm.AsUpstream, swarm.AsFresh, swarm.AsSpare}

// admit has next answer nodes of swarms that have a slot, and all other clients. It returns
// errNoSlot without a slot, and [slots.ErrSent] if a node asks for a fresh shard that was sent.
func (s *swarming) admit(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		as := r.Header.Get(wire.SwarmHeader)
		if r.Method != http.MethodGet || !slices.Contains(asked, as) {
			return next(w, r, t)
		}
		if as == swarm.AsFresh { // without having waited for a slot
			of, err := s.find(r.Context(), t)
			if err == nil && !s.sent.IsFresh(of.stream, t.number, of.manifest) {
				return slots.ErrSent
			}
		}
		conns.HoldLittle(r, unsentInSwarm)
		reader := readerOf(r)
		if reader.Conn != nil {
			reader.Trip = conns.Trip(reader.Conn)
		}
		leave, ok := s.slots.Enter(r.Context(), reader, as == swarm.AsSpare)
		if !ok {
			return errNoSlot
		}
		defer leave()
		if as == swarm.AsPeer {
			return next(w, r, t)
		}
		of, err := s.find(r.Context(), t)
		if err != nil {
			return next(w, r, t) // without a manifest nothing is noted
		}
		ended, err := s.sent.Begin(of.stream, t.number, of.manifest, as == swarm.AsFresh)
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

// have answers with the states of the shards of a version, or of a delta, a line at a time as they change, see
// package swarm, until the version is retired or replaced.
func (s *swarming) have(w http.ResponseWriter, r *http.Request, t target) error {
	digest, err := shard.ParseDigest(r.URL.Query().Get(wire.DigestQuery))
	if err != nil {
		return fs.ErrNotExist
	}
	now, err := s.states(r.Context(), t, digest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect lines otherwise
	if r.Method == http.MethodHead {
		return nil
	}
	leave, ok := s.followers.Enter(readerOf(r))
	if !ok {
		return errNoSlot
	}
	defer leave()
	s.advise(r.Context(), t)
	out := http.NewResponseController(w)
	every := wire.HaveEvery
	if t.base != 0 {
		every = wire.HaveEveryDelta
	}
	every = max(every, wire.HaveEveryShard*time.Duration(len(now)))
	ticker := time.NewTicker(every)
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
		if now, err = s.shared(r.Context(), t, digest, every/sharedFor); err != nil {
			return nil //nolint:nilerr // the version is retired, or replaced
		}
	}
}

// advise says once of a version that it has too few shards for a swarm.
func (s *swarming) advise(ctx context.Context, t target) {
	if s.logger == nil || t.base != 0 {
		return
	}
	of, err := s.find(ctx, t)
	m := of.manifest
	if err != nil || len(m.Shards) >= fewShards || m.Size < fewShards*shard.MinAutoSize {
		return
	}
	s.mu.Lock()
	fresh := t.version > s.advised // nodes may follow several, in turn
	s.advised = max(s.advised, t.version)
	s.mu.Unlock()
	if fresh {
		s.logger.Info("few shards for a swarm", "version", t.version.String(), "shards", len(m.Shards),
			"shard_size", m.ShardSize, "hint", "publish with --shard-size auto")
	}
}

// shared returns the states of the last look at a stream, or those of a new one if that was longer ago. The caller does
// not change them. Errors are those of states.
func (s *swarming) shared(
	ctx context.Context, t target, digest shard.Digest, ago time.Duration,
) ([]swarm.State, error) {
	stream := slots.Stream{Version: t.version, Base: t.base}
	s.mu.Lock()
	last := s.looks[stream]
	s.mu.Unlock()
	if last.digest == digest && time.Since(last.at) < ago {
		return last.states, nil
	}
	at := time.Now()
	states, err := s.states(ctx, t, digest)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.looks {
		if len(s.looks) < mostLooks {
			break
		}
		delete(s.looks, other) // at worst its followers look once more
	}
	s.looks[stream] = look{digest, at, states}
	return states, nil
}

// states returns the state of each shard of a version, or of a delta. The error matches [fs.ErrNotExist]
// if that is not here, or not of that digest.
func (s *swarming) states(ctx context.Context, t target, digest shard.Digest) ([]swarm.State, error) {
	of, err := s.find(ctx, t)
	if err != nil {
		return nil, err
	}
	if of.manifest.Digest != digest {
		return nil, fs.ErrNotExist
	}
	states := make([]swarm.State, 0, len(of.manifest.Shards))
	for e := range of.extents {
		switch {
		case e.Verified:
			states = append(states, swarm.Held)
		case e.Direct:
			states = append(states, swarm.Arriving)
		default:
			states = append(states, swarm.Missing)
		}
	}
	for _, number := range s.sent.Sent(of.stream, of.manifest) {
		states[number-1] = swarm.Sent
	}
	return states, nil
}

// swapped is a stream whose shards nodes swap, as it is here now.
type swapped struct {
	stream   slots.Stream
	manifest shard.Manifest
	extents  iter.Seq[catalog.Extent]
}

// find returns the version of t, or the delta. Errors are those of [catalog.Catalog.Find] and
// [catalog.Catalog.Delta].
func (s *swarming) find(ctx context.Context, t target) (swapped, error) {
	of := swapped{stream: slots.Stream{Version: t.version, Base: t.base}}
	if t.base != 0 {
		d, err := s.catalog.Delta(ctx, t.version, t.base, 0)
		if err != nil {
			return of, err
		}
		of.manifest, of.extents = d.Manifest, d.Extents()
		d.Close()
		return of, nil
	}
	v, err := s.catalog.Find(t.version)
	if err != nil {
		return of, err
	}
	of.manifest, of.extents = v.Manifest, v.Extents()
	return of, v.Close()
}
