package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Task is one version to be fetched. Entry and Open are required.
type Task struct {
	// Entry is one of [Pool.Offers].
	Entry distfile.Entry

	// Open returns the sink for what a manifest says. The tier is how many servers the version comes through: 1 if the manifest's
	// upstream holds all of it.
	Open func(m shard.Manifest, tier int) (Sink, error)

	// Relay says that others are given what comes while it comes. Then nothing is
	// taken on the way through who is not nearer to the origin, or two could wait
	// for one another.
	Relay bool

	// BLAKE3 has that of the whole file computed, for others to be told of it, also where
	// nothing depends on it.
	BLAKE3 bool

	// Progress is called every quarter of a second and once in the end, never twice
	// at the same time. Nil has a line logged every ten seconds.
	Progress func(Progress)
}

// fetching is the fetch of one version by one manifest.
type fetching struct {
	*Pool

	entry    distfile.Entry
	manifest shard.Manifest
	digests  []shard.Digest // those that the manifest has, or else of what has come
	only     *upstream      // from which alone all is fetched, whatever is there already; or nil
	source   *upstream      // of the manifest, or nil if that is what upstreams tell without one
	tier     int            // how many servers it comes through, see [Task]
	relay    bool
	blake3   bool // see Task
	sink     Sink
	refused  refusals
	// Those whose manifests did not fit.
	distrusted *refusals
	swarm      *swarming // or nil
	inOrder    *inOrder  // or nil, and then:
	kept       chan int  // shards that are in the sink, right by their digests
	tally      *tally

	mu        sync.Mutex      // guards what follows
	senders   map[string]bool // of all that has arrived, by name; of what was there before an empty name
	begun     []bool          // by shard
	wanted    []int           // numbers of shards that somebody waits for
	cursor    int             // those of the shards before it are true
	done      int             // shards
	resting   int             // workers that have nothing to do
	opening   map[int]bool    // numbers of shards that are begun, and not yet in open
	open      map[*arrival]bool
	waiting   []*span // that nobody brings
	transfers map[*transfer]bool
	ended     []delivery    // finished transfers, the newest last
	changed   chan struct{} // closed and replaced when an idle worker may find something to do
}

// Fetch brings all shards of t.Entry to the sink that t.Open returns for its
// manifest, and returns that manifest and how it went, only if every shard agrees with it and the
// whole with the entry's digest. What the sink keeps already is checked, and used
// if it is right. The digest of the whole is computed from the sink, behind the shards as
// they come; unless others may read them meanwhile, each is checked then, in the same pass.
//
// A manifest is believed until the bytes do not fit: then its upstream is not
// asked for one again, and t.Open is called again for the manifest of another one. It may
// be called with the same one again.
//
// Errors match [ErrIntegrity] if no upstream has the right bytes, [ErrNoVersion]
// if none offers e any more, [ErrUnreachable] if none answers, and
// [fs.ErrNotExist] if none has a manifest or a shard. Others are those of t.Open
// and of the sink, what ended ctx, or say what the upstreams answered.
func (p *Pool) Fetch(ctx context.Context, t Task) (shard.Manifest, Progress, error) {
	report := t.Progress
	if report == nil {
		report = p.logProgress()
	}
	tally := newTally(p, t.Entry, report)
	following, stop := context.WithCancel(ctx)
	var reports sync.WaitGroup
	reports.Go(func() { tally.follow(following) })
	m, err := p.fetch(ctx, t, tally)
	stop()
	reports.Wait()
	end := tally.end(err == nil)
	p.opts.Metrics.Wasted(end.Wasted)
	if err != nil {
		return shard.Manifest{}, end, fmt.Errorf("fetch %s: %w", t.Entry.Version, named(err))
	}
	return m, end, nil
}

func (p *Pool) fetch(ctx context.Context, t Task, tally *tally) (shard.Manifest, error) {
	distrusted := new(refusals)
	var tried []shard.Manifest
	var last error // of those tried
	for {
		f := p.fetching(t, tally)
		f.distrusted = distrusted
		err := f.choose(ctx, tried)
		if err != nil && distrusted.lack() && ctx.Err() == nil {
			another, manifest := p.another(ctx, t.Entry)
			if manifest == nil {
				return p.fetchPlain(ctx, t, tally)
			}
			t.Entry, distrusted = another, new(refusals)
			continue
		}
		switch {
		case err == nil:
		case last != nil && errors.Is(err, ErrNoVersion):
			return shard.Manifest{}, last // which is why it is not offered any more
		default:
			return shard.Manifest{}, err
		}
		err = f.run(ctx, t)
		if !errors.Is(err, ErrIntegrity) {
			return f.result(), err
		}
		p.opts.Logger.Warn("manifest not believed", "version", t.Entry.Version.String(), "upstream", f.source.name, "err", err)
		tried, last = append(tried, f.manifest), fmt.Errorf("by the manifest of %s: %w", f.source.name, err)
		if f.tier == 1 || !f.offers(f.source, t.Entry) {
			distrusted.add(f.source, last)
		}
	}
}

// choose gets a manifest that was not tried, of an upstream that is not distrusted.
func (f *fetching) choose(ctx context.Context, tried []shard.Manifest) error {
	return f.retry(ctx, quest{entry: f.entry, refused: f.distrusted, try: func(u *upstream) (err error) {
		f.source = u
		var passed int
		if f.manifest, passed, err = f.Pool.manifest(ctx, u, f.entry); err != nil {
			return err
		}
		f.tier = passed + 1
		if !alreadyTried(tried, f.manifest) {
			return nil
		}
		if err = fmt.Errorf("%s: its manifest says the same", u.name); passed > 0 {
			return busy{error: err, wait: relayAgain}
		}
		return wrong(err)
	}})
}

// relayAgain is when a relay is asked again that has passed on a manifest which was
// not right: it finds that out as we do, and gets another one.
const relayAgain = 2 * time.Second

// alreadyTried reports whether one of tried has the same shards as m.
func alreadyTried(tried []shard.Manifest, m shard.Manifest) bool {
	return slices.ContainsFunc(tried, func(t shard.Manifest) bool {
		return t.Size == m.Size && t.ShardSize == m.ShardSize && slices.Equal(t.Shards, m.Shards)
	})
}

func (p *Pool) fetching(t Task, tally *tally) *fetching {
	return &fetching{
		Pool: p, entry: t.Entry, relay: t.Relay, blake3: t.BLAKE3, tier: 1, tally: tally,
		opening: make(map[int]bool), open: make(map[*arrival]bool), transfers: make(map[*transfer]bool),
		changed: make(chan struct{}), distrusted: new(refusals), senders: make(map[string]bool),
	}
}

// result is the manifest, with all digests.
func (f *fetching) result() shard.Manifest {
	m := f.manifest
	m.Shards = f.digests
	return m
}

// run brings all shards to the sink that t opens.
func (f *fetching) run(ctx context.Context, t Task) (err error) {
	if f.sink, err = t.Open(f.manifest, f.tier); err != nil {
		return err
	}
	f.digests = slices.Clone(f.manifest.Shards)
	f.begun = make([]bool, len(f.digests))
	f.swarm = f.newSwarming()
	defer f.swarm.over()
	if f.inOrder = f.newInOrder(); f.inOrder == nil {
		f.kept = make(chan int, len(f.digests))
	}
	f.tally.begin(f)
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(watched) })
	defer watching.Wait()
	defer stop()
	defer func() { err = errors.Join(err, f.close()) }()
	group, ctx := errgroup.WithContext(ctx)
	work := f.work
	if f.swarm != nil {
		work = f.swarm.work
		watching.Go(func() { f.swarm.listen(watched) })
	}
	for range f.opts.Concurrency {
		group.Go(func() error { return work(ctx) })
	}
	group.Go(func() error { return f.checkWhole(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	if slices.Contains(f.manifest.Shards, shard.Digest{}) {
		f.opts.Metrics.Verified(len(f.digests)) // all at once, by the digest of the file
	}
	return nil
}

// close closes the places of shards that have not arrived.
func (f *fetching) close() error {
	var err error
	for a := range f.open {
		err = errors.Join(err, a.place.Close())
	}
	return err
}

// checkWhole computes the digests of the whole file, from the sink, behind the shards
// as they come. The BLAKE3 is computed only where it may be what the distribution
// states, or others will be told of it.
func (f *fetching) checkWhole(ctx context.Context) error {
	if f.inOrder != nil {
		select {
		case <-f.inOrder.done:
			return f.compare(ctx, f.inOrder.sums.Whole(), shard.Digest{})
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	whole := newSums(f.blake3 || f.source == nil || f.manifest.Digest != f.entry.Digest)
	defer whole.close()
	kept := make([]bool, len(f.manifest.Shards))
	for next := 0; next < len(kept); next++ {
		for !kept[next] {
			select {
			case number := <-f.kept:
				kept[number-1] = true
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		s := f.manifest.Shard(next + 1)
		place, err := f.sink.Open(s)
		if err != nil {
			return err
		}
		n, err := whole.add(io.NewSectionReader(place, 0, s.Size))
		if err == nil && n < s.Size {
			err = io.ErrUnexpectedEOF
		}
		if err := errors.Join(err, place.Close()); err != nil {
			return err
		}
	}
	sha, blake := whole.digests()
	return f.compare(ctx, sha, blake)
}

// compare returns nil if the digests of the whole file are those that it must have, and
// notes them in the manifest. The BLAKE3 is zero if nobody has asked for it.
func (f *fetching) compare(ctx context.Context, sha, blake shard.Digest) error {
	want := f.entry.Digest
	said := f.manifest
	f.manifest.Digest, f.manifest.BLAKE3 = sha, cmp.Or(blake, said.BLAKE3)
	switch {
	case sha != want && blake != want:
		return kind{fmt.Errorf("the file's digest is %s instead of %s, although all its shards are there", sha, want), ErrIntegrity}
	case f.source != nil && (sha != said.Digest || said.BLAKE3 != f.manifest.BLAKE3 && said.BLAKE3 != (shard.Digest{})):
		return kind{fmt.Errorf("the file is what is offered, but its manifest has other digests: %s, and %s by BLAKE3",
			said.Digest, said.BLAKE3), ErrIntegrity}
	}
	return nil
}
