package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// Why a transfer is ended before its time.
var (
	// errOver is for one whose bytes somebody else has brought.
	errOver = errors.New("the bytes came from elsewhere")

	// errCrawl is for one that is far slower than it might be.
	errCrawl = errors.New("far slower than usual")
)

// move says which upstream is to continue a transfer.
type move struct{ upstream *upstream }

func (m move) Error() string { return "continued by " + m.upstream.name }

// arrival is one shard on its way into its place. It consists of spans, and its
// bytes are hashed as they come, as long as they come in order; what comes ahead
// of the order is read back in the end. Where it is checked in its turn all is.
type arrival struct {
	*fetching

	shard    shard.Shard
	place    Place
	begun    time.Time
	byItself bool // it is checked, whatever comes before it; hashed as it comes if that is so from the begin

	mu       sync.Mutex // guards what follows, and the spans
	spans    []*span    // what was missing at first, ascending
	pending  int        // spans that are not over
	finished bool       // somebody is checking the whole, or has
	hash     hash.Hash
	hashed   int64
	parts    int     // transfers that have brought something since it was begun anew
	wrongs   int     // how often it was wrong
	as       string  // in a swarm: how it is asked for, see [swarm.Pick]
	owners   []owner // who sent what is in place; what nobody did was there before
	present  int64   // bytes that were there before

	// alone is set when bytes of several upstreams made a wrong shard: then it is
	// brought by one alone, and what differs from before tells who was wrong.
	alone   bool
	differs map[*upstream]bool
	best    int64 // how far anybody alone has come
}

// owner is who sent a range of a shard.
type owner struct {
	disk.Range

	upstream *upstream
	relayed  bool // before it could know whether it was right
}

// span is a range of a shard that one worker brings, in order. Another one may
// take over its end, or race it.
type span struct {
	*arrival

	at, to    int64 // what is still to come
	transfers []*transfer
	crawls    int // how often a transfer was abandoned for being slow
}

// transfer is one request for the rest of a span.
type transfer struct {
	*span

	upstream *upstream
	from, to int64 // what is asked for
	cancel   context.CancelCauseFunc
	relayed  bool  // see owner
	received int64 // since the last tick; guarded by the tally's mu
	total    int64 // likewise, of all ticks
	used     int64 // what its span got by it; guarded by the arrival's mu
	pace     pace  // for the watch alone
	given    bool  // up; likewise
}

// arrival begins with s: with what is there of it, and with spans for the rest.
func (f *fetching) arrival(s shard.Shard) (*arrival, error) {
	place, err := f.sink.Open(s)
	if err != nil {
		return nil, err
	}
	a := &arrival{fetching: f, shard: s, place: place, begun: time.Now(), byItself: f.inOrder == nil || f.swarm.hasNeighbours(), hash: sha256.New()}
	var written []disk.Range
	if f.only != nil {
		place.Forget()
	} else if written, err = place.Written(); err != nil {
		return nil, errors.Join(err, place.Close())
	}
	at := int64(0)
	for _, r := range append(written, disk.Range{From: s.Size, To: s.Size}) {
		if at < r.From {
			a.add(at, r.From)
		}
		a.present += r.To - r.From
		at = r.To
	}
	f.tally.found(a.present)
	return a, nil
}

// add adds a span. The caller holds mu, or the only reference.
func (a *arrival) add(from, to int64) *span {
	s := &span{arrival: a, at: from, to: to}
	a.spans = append(a.spans, s)
	a.pending++
	return s
}

// readBack hashes from the place up to the offset to.
func (a *arrival) readBack(to int64, buf []byte) error {
	r := io.NewSectionReader(a.place, a.hashed, to-a.hashed)
	n, err := io.CopyBuffer(a.hash, struct{ io.Reader }{r}, buf)
	a.hashed += n
	if err == nil && a.hashed < to {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// restart forgets what is there and returns a span for all of it. What is there
// stays to be compared with if alone is set. The caller holds mu, or the only
// reference.
func (a *arrival) restart() *span {
	a.spans, a.pending, a.finished, a.parts = nil, 0, false, 0
	a.place.Forget()
	a.hash.Reset()
	a.hashed, a.present, a.best = 0, 0, 0
	a.differs = make(map[*upstream]bool)
	return a.add(0, a.shard.Size)
}

// over reports whether all of s has come. The caller holds mu.
func (s *span) over() bool { return s.at >= s.to }

// join registers a transfer of the rest of s from u. It returns nil if there is
// nothing to do: all of it has come, or somebody else is bringing it and this is
// not meant to be a race.
func (s *span) join(u *upstream, race bool, cancel context.CancelCauseFunc) *transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() || (len(s.transfers) > 0 && !race) {
		return nil
	}
	if s.alone && s.at > 0 && !s.from(u) {
		s.tally.wrong(0, s.at)
		s.place.Forget()
		s.at, s.hashed, s.parts = 0, 0, 0
		s.hash.Reset()
		clear(s.differs)
	}
	t := &transfer{span: s, upstream: u, from: s.at, to: s.to, cancel: cancel}
	s.transfers = append(s.transfers, t)
	return t
}

// from reports whether all that has come of s since the restart was sent by u.
func (s *span) from(u *upstream) bool {
	return !slices.ContainsFunc(s.owners, func(o owner) bool { return o.From < s.at && o.upstream != u })
}

// leave ends t, and reports how much was gained by it and whether its span is over.
// Who brings a shard alone gains only what nobody alone has come to before.
func (t *transfer) leave() (gained int64, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.transfers = slices.DeleteFunc(t.transfers, func(o *transfer) bool { return o == t })
	gained = t.used
	if t.alone && slices.Contains(t.spans, t.span) {
		gained = max(0, t.at-t.best)
		t.best = max(t.best, t.at)
	}
	return gained, t.over()
}

// take puts into place what t has received at offset, as far as it is wanted, and
// returns how many bytes more are, after these.
func (t *transfer) take(offset int64, data []byte) (left int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := offset + int64(len(data))
	var used int64
	if offset <= t.at && t.at < min(end, t.span.to) {
		fresh := data[t.at-offset : min(end, t.span.to)-offset]
		if err := t.put(t.at, fresh); err != nil {
			return 0, err
		}
		used = int64(len(fresh))
		if t.used == 0 {
			t.parts++
		}
		t.at += used
		t.used += used
		if t.over() {
			t.pending--
			for _, other := range t.transfers {
				if other != t {
					other.cancel(errOver)
				}
			}
		}
	}
	t.tally.took(t, int64(len(data)), used)
	if t.over() {
		return 0, nil
	}
	return t.span.to - end, nil
}

// put writes data and hashes it if it is next. The caller holds mu.
func (t *transfer) put(offset int64, data []byte) error {
	a := t.arrival
	r := disk.Range{From: offset, To: offset + int64(len(data))}
	if a.alone {
		if err := a.compare(r, data); err != nil {
			return err
		}
	}
	if _, err := a.place.WriteAt(data, offset); err != nil {
		return err
	}
	if offset == a.hashed && a.byItself {
		a.hash.Write(data)
		a.hashed = r.To
	}
	a.own(owner{r, t.upstream, t.relayed})
	return nil
}

// own notes who has sent r.
func (a *arrival) own(r owner) {
	if a.alone { // otherwise no byte is put twice
		var others []owner
		for _, o := range a.owners {
			if o.From < r.From {
				others = append(others, owner{disk.Range{From: o.From, To: min(o.To, r.From)}, o.upstream, o.relayed})
			}
			if o.To > r.To {
				others = append(others, owner{disk.Range{From: max(o.From, r.To), To: o.To}, o.upstream, o.relayed})
			}
		}
		a.owners = others
	}
	for i, o := range a.owners {
		if o.upstream == r.upstream && o.relayed == r.relayed && o.To == r.From {
			a.owners[i].To = r.To
			return
		}
	}
	a.owners = append(a.owners, r)
}

// compare notes whose bytes data, which is to replace r, differs from. A relay that
// sent what it could not know to be wrong is not meant.
func (a *arrival) compare(r disk.Range, data []byte) error {
	old := make([]byte, len(data))
	if _, err := a.place.ReadAt(old, r.From); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, o := range a.owners {
		from, to := max(o.From, r.From), min(o.To, r.To)
		if from < to && !o.relayed && !slices.Equal(old[from-r.From:to-r.From], data[from-r.From:to-r.From]) {
			a.differs[o.upstream] = true
		}
	}
	return nil
}

// finish checks the shard if all of it has come and nobody else does so, or leaves it to be
// checked in its turn. It returns a span if the shard, or another one whose turn it was, is
// wrong, and is to be brought again.
func (a *arrival) finish(ctx context.Context, buf []byte) (*span, error) {
	a.mu.Lock()
	if a.pending > 0 || a.finished {
		a.mu.Unlock()
		return nil, nil //nolint:nilnil // nothing to do
	}
	a.finished = true
	a.mu.Unlock()
	return a.check(ctx, buf)
}

// check checks the shard, all of which has come, as finish says.
func (a *arrival) check(ctx context.Context, buf []byte) (*span, error) {
	if a.byItself = a.byItself || a.swarm.hasNeighbours(); a.byItself {
		got, err := a.digest(buf)
		if err != nil {
			return nil, err
		}
		if again, err := a.settle(ctx, got); again != nil || err != nil || a.inOrder == nil {
			return again, err
		}
	}
	return a.inOrder.check(ctx, a, buf)
}

// digest is that of the shard, all of which has come.
func (a *arrival) digest(buf []byte) (shard.Digest, error) {
	if err := a.readBack(a.shard.Size, buf); err != nil {
		return shard.Digest{}, local{err}
	}
	return shard.Digest(a.hash.Sum(nil)), nil
}

// settle keeps the shard, whose digest is got, or returns a span to bring it again.
func (a *arrival) settle(ctx context.Context, got shard.Digest) (*span, error) {
	if a.shard.Digest == (shard.Digest{}) {
		a.digests[a.shard.Number-1] = got
	} else if got != a.shard.Digest {
		a.opts.Metrics.Mistaken()
		err := fmt.Errorf("%w: %s instead of %s", shard.ErrDigest, got, a.shard.Digest)
		return a.mend(ctx, err), nil
	}
	for u := range a.differs {
		a.blame(ctx, a.quest(), u, wrong(fmt.Errorf("%s: shard %d: %w", u.name, a.shard.Number, shard.ErrDigest)))
	}
	if err := a.place.Commit(); err != nil {
		return nil, local{err}
	}
	if err := a.place.Close(); err != nil {
		return nil, local{err}
	}
	a.arrived(a)
	return nil, nil //nolint:nilnil // nothing more to do
}

// maxWrong is how often a shard that came from one upstream in several parts may be
// wrong before that is to blame. A relay that finds a shard wrong breaks off and has
// it come again, so that what it sent before and after does not fit; in one part it
// never sends a wrong one.
const maxWrong = 3

// mend finds out who is to blame for a shard whose digest is wrong, and returns
// the span to bring again.
func (a *arrival) mend(ctx context.Context, err error) *span {
	senders := a.senders()
	a.mu.Lock()
	a.wrongs++
	found := len(senders) == 1 && a.present == 0 && (a.parts == 1 || a.wrongs >= maxWrong)
	a.mu.Unlock()
	if found {
		a.blame(ctx, a.quest(), senders[0], wrong(fmt.Errorf("%s: shard %d: %w", senders[0].name, a.shard.Number, err)))
	} else {
		level := slog.LevelWarn
		if a.tally.isAgain() {
			level = slog.LevelDebug // it came by another manifest
		}
		a.opts.Logger.Log(ctx, level, "shard is fetched again", "version", a.entry.Version.String(), "shard", a.shard.Number,
			"upstreams", names(senders), "resumed", a.present, "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.wrong(a.present, a.shard.Size-a.present)
	a.alone = len(senders) > 0 && !found
	if !a.alone {
		a.owners = nil
	}
	return a.restart()
}

// senders are the upstreams whose bytes are in place.
func (a *arrival) senders() []*upstream {
	var senders []*upstream
	for _, o := range a.owners {
		if !slices.Contains(senders, o.upstream) {
			senders = append(senders, o.upstream)
		}
	}
	return senders
}

func names(upstreams []*upstream) []string {
	names := make([]string, len(upstreams))
	for i, u := range upstreams {
		names[i] = u.name
	}
	return names
}
