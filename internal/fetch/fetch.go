package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/peering"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/tree"
	"github.com/shardcast/shardcast/internal/verify"
)

type (
	// A Taker is a node that takes versions up by itself.
	Taker = offers.Taker

	// A Count is the versions that count for a [Taker].
	Count = offers.Count

	// A Sink is where [Pool.Fetch] brings the shards of a version.
	Sink = transfer.Sink

	// A Place is where one shard goes.
	Place = transfer.Place

	// An Audience are the readers of a version while it arrives.
	Audience = transfer.Audience

	// Progress is how far a fetch has come.
	Progress = transfer.Progress

	// A Manifest is that of an upstream, or where none has one, what was measured.
	Manifest = offers.Manifest

	// An Upstream is one server's part of a fetch.
	Upstream = transfer.Upstream
)

// States of an [Upstream].
const (
	Idle    = roster.Idle
	Sending = roster.Sending
	Busy    = roster.Busy
	Failing = roster.Failing
	Refused = transfer.Refused
)

// A Task is one version to be fetched. Entry and Open are required.
type Task struct {
	// Entry is one of [Pool.Offers].
	Entry distfile.Entry

	// Open returns the sink for what a manifest states. For a tree it gets the list of files
	// by [Pool.Files], whose errors it passes on.
	Open func(ctx context.Context, m Manifest) (Sink, error)

	// Part returns the numbers of the shards to bring to the sink that was opened last. Then the
	// whole is not verified; all shards have the digests of a manifest. Nil, here
	// or as the result, means all shards. It has no effect in a swarm.
	Part func() map[int]bool

	// Rebuild returns the sink that was opened last, if it may be filled by a delta. Nil, here or as the
	// result, means that it is not.
	Rebuild func() Rebuilder

	// Voted has only a manifest believed whose shards and files more than half of the servers
	// state that list the entry and answer with a manifest.
	Voted bool

	// Audience returns the readers of the version while it comes to the sink that was
	// opened last. Then no bytes are taken on their way through a server that is not nearer
	// to the origin, or two could wait for one another. Nil means that no reader does.
	Audience func() Audience

	// Patient waits for shards that a server without a manifest lists and does not have yet,
	// up to 10 min without a byte. Otherwise these are failures as others.
	Patient bool

	// BLAKE3 has that of the whole computed and compared with the manifest's, also where
	// nothing depends on it.
	BLAKE3 bool

	// Headway learns whether the fetch gets on. Nil is allowed.
	Headway *Headway

	// Progress is called every quarter of a second and once in the end, of a fetch that ends
	// well with [transfer.Syncing], never twice at the same time. Nil has a line logged every ten seconds.
	Progress func(Progress)
}

// Fetch brings all shards of t.Entry to the sink that t.Open returns for its manifest, and
// returns that manifest and how it went, only if every shard agrees with it and the whole
// with the entry's digest. Where no upstream that lists the entry has a manifest, and one
// that lists another digest of the version does, which states both, that is used. Data that the sink keeps
// already is verified, and used if it is right.
//
// A manifest is believed until the bytes do not fit: then its upstream is not asked for
// one again, and t.Open is called again for the manifest of another one. It may be called
// with the same one again.
//
// Errors match [ErrIntegrity] if no upstream has the right bytes, [ErrNoVersion]
// if none offers the entry any more, [ErrUnreachable] if none answers, [ErrTooLarge], and
// [fs.ErrNotExist] if none has a manifest or a shard. Others are those of t.Open
// and of the sink, what ended ctx, or say what the upstreams answered.
func (p *Pool) Fetch(ctx context.Context, t Task) (shard.Manifest, Progress, error) {
	report := t.Progress
	if report == nil {
		report = p.logProgress()
	}
	if t.Headway != nil {
		show := report
		report = func(now Progress) {
			t.Headway.note(now, p.opts.Patience)
			show(now)
		}
	}
	f := &fetching{pool: p, task: t, want: p.offers.Want(t.Entry), choice: p.offers.Choose(t.Entry)}
	f.tally = transfer.NewTally(t.Entry.Version, p.roster, p.opts.Metrics, f.states, report)
	outer := ctx // since the sink may be in use after the fetch
	f.task.Open = func(_ context.Context, m Manifest) (Sink, error) { return t.Open(outer, m) }
	ctx, ended := p.offers.While(ctx, t.Entry)
	defer ended()
	beside, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { f.tally.Follow(beside) })
	group.Go(func() { p.askLacking(beside, t.Entry.Version) })
	m, err := f.run(ctx)
	stop()
	group.Wait()
	end := f.tally.End(err == nil)
	p.opts.Metrics.Wasted(end.Wasted)
	p.opts.Metrics.Saved(end.Rebuilt - end.Delta)
	if err != nil {
		return shard.Manifest{}, end, fmt.Errorf("fetch %s: %w", t.Entry.Version, offers.Named(err))
	}
	p.inFull.note(end)
	return m, end, nil
}

// Files returns the tree that m describes, see [offers.Offers.Files].
func (p *Pool) Files(ctx context.Context, m Manifest, keep func() (shard.Writer, error)) (*tree.Tree, error) {
	return p.offers.Files(ctx, m, keep)
}

// fetching is a fetch that is under way.
type fetching struct {
	pool   *Pool
	task   Task
	tally  *transfer.Tally
	choice *offers.Choice

	mu   sync.Mutex   // guards want
	want *offers.Want // of the manifest that is tried
}

// run fetches by one manifest after the other, until the bytes fit.
func (f *fetching) run(ctx context.Context) (shard.Manifest, error) {
	for {
		m, err := f.choice.Next(ctx)
		if errors.Is(err, offers.ErrPlain) {
			return f.plain(ctx)
		}
		if err != nil {
			return shard.Manifest{}, err
		}
		got, err := f.by(ctx, m, f.pool.offers.Want(m.Entry))
		if !errors.Is(err, ErrIntegrity) {
			return got, err
		}
		f.choice.Distrust(m, err)
	}
}

// plain fetches a version of which no upstream has a manifest: it comes from all upstreams,
// and if that is wrong, from each of them alone, in turn. An upstream whose file is wrong
// then is to blame.
func (f *fetching) plain(ctx context.Context) (got shard.Manifest, err error) {
	e := f.task.Entry
	layouts, err := f.pool.offers.Layouts(ctx, e, f.task.Patient)
	if err != nil {
		return shard.Manifest{}, err
	}
	for i := 0; i < len(layouts); i++ {
		m := Manifest{Entry: e, Stated: layouts[i], Tier: 1}
		want := f.pool.offers.Want(e)
		var from *transfer.Transfer
		if got, from, err = f.transfer(ctx, m, want, nil); errors.Is(err, ErrIntegrity) {
			// The shards that a server had may not have been all.
			now, failed := f.pool.offers.Layouts(ctx, e, f.task.Patient)
			if failed == nil && now[0].Size > layouts[0].Size {
				layouts, i = now, -1
				continue
			}
			got, err = f.alone(ctx, m, want, from, err)
		}
		if !errors.Is(err, ErrIntegrity) {
			break
		}
	}
	return got, err
}

// alone fetches a version from each upstream alone, in turn, after a transfer from all of
// them was wrong.
func (f *fetching) alone(
	ctx context.Context, m offers.Manifest, all *offers.Want, from *transfer.Transfer, wrong error,
) (shard.Manifest, error) {
	var failed []error
	for _, s := range f.pool.roster.Servers() {
		if !all.May(s) {
			continue
		}
		err := wrong
		if !from.IsFrom(s) {
			f.pool.opts.Logger.Warn("file is fetched from one upstream alone", "version", all.Entry.Version.String(),
				"upstream", s.Name, "err", err)
			var got shard.Manifest
			got, _, err = f.transfer(ctx, m, f.pool.offers.Only(s, all.Entry), s)
			if err == nil || ctx.Err() != nil || roster.Is(err, roster.Stop) {
				return got, err
			}
		}
		err = fmt.Errorf("%s alone: %w", s.Name, err)
		if failed = append(failed, err); errors.Is(err, ErrIntegrity) {
			all.Refuse(ctx, s, roster.Wrong(err))
		}
	}
	return shard.Manifest{}, remote.Matching(offers.Failures(append(failed, wrong)), ErrIntegrity)
}

// by fetches a version by a manifest of a server.
func (f *fetching) by(ctx context.Context, m offers.Manifest, want *offers.Want) (shard.Manifest, error) {
	if f.task.Voted {
		if err := f.pool.offers.Agree(ctx, m); err != nil {
			return shard.Manifest{}, err
		}
	}
	got, _, err := f.transfer(ctx, m, want, nil)
	return got, err
}

// transfer brings a version to the sink of the task, from one upstream alone if that is not
// nil.
func (f *fetching) transfer(
	ctx context.Context, m offers.Manifest, want *offers.Want, only *remote.Server,
) (shard.Manifest, *transfer.Transfer, error) {
	f.mu.Lock()
	f.want = want
	f.mu.Unlock()
	if most := f.pool.opts.MaxSize; most > 0 && m.Stated.Size > most {
		return shard.Manifest{}, nil, fmt.Errorf("%w: it has %d bytes, and the limit (--max-size) is %d",
			ErrTooLarge, m.Stated.Size, most)
	}
	opened := f.tally.Checks() // such as whether all of it is there already
	sink, err := f.task.Open(ctx, m)
	opened()
	if err != nil {
		return shard.Manifest{}, nil, err
	}
	var audience Audience
	if f.task.Audience != nil {
		audience = f.task.Audience()
	}
	var part map[int]bool
	if f.task.Part != nil {
		part = f.task.Part()
	}
	p, plain := f.pool, m.Source == nil
	var delta *rebuilding
	if f.task.Rebuild != nil && part == nil && !plain {
		if to := f.task.Rebuild(); to != nil {
			delta = f.rebuild(ctx, m, want, to)
		}
	}
	whole := false
	defer func() { delta.end(whole) }()
	inSwarm := p.opts.Swarm && audience != nil && !plain
	verifier := verify.New(verify.Options{
		Manifest: m.Stated, Listed: f.task.Entry.Digest, Plain: plain, Part: part,
		Signed: p.offers.Signed() && !p.opts.VerifyStream,
		BLAKE3: f.task.BLAKE3,
		Open:   func(s shard.Shard) (verify.Place, error) { return sink.Open(s) },
	})
	t := transfer.New(transfer.Options{
		Version: want.Entry.Version, Manifest: m.Stated, Pinned: !plain, Only: part,
		Patient: plain && f.task.Patient, Afresh: only != nil,
		Sink: sink, Audience: audience, Giver: delta.giver(), Verifier: verifier,
		Get: func(ctx context.Context, s *remote.Server, number int, r remote.Request) (*remote.Body, error) {
			return p.offers.GetShard(ctx, s, want.Entry, number, r)
		},
		Blame: want.Refuse, Workers: p.workers(), Far: p.remote.IsFar(),
		Roster: p.roster, Tally: f.tally, Metrics: p.opts.Metrics, Logger: p.opts.Logger,
	})
	if !inSwarm {
		audience = nil
	}
	got, err := p.run(ctx, t, peering.PlanOptions{
		Version: want.Entry.Version, Digest: m.Stated.Digest, Tier: m.Tier, Shards: len(m.Stated.Shards),
		Want: want, Verifier: verifier, Audience: audience, Tally: f.tally,
	})
	whole = err == nil
	return got, t, err
}

// run runs t in the swarm, or in order if there is none, or no audience that peers are in.
func (p *Pool) run(ctx context.Context, t *transfer.Transfer, of peering.PlanOptions) (shard.Manifest, error) {
	if !p.opts.Swarm || of.Audience == nil {
		return t.Run(ctx, transfer.NewInOrder(t, p.opts.Timeout, of.Tier, of.Want.Job))
	}
	of.Transfer, of.Timeout, of.Workers, of.Logger = t, p.opts.Timeout, t.Workers(), p.opts.Logger
	of.Attempts, of.Waits = p.opts.Attempts, p.opts.waits()
	plan := p.swarm.Plan(of)
	defer plan.Close()
	listening, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { plan.Listen(listening) })
	got, err := t.Run(ctx, plan)
	stop()
	group.Wait()
	return got, err
}

// states returns how the servers are that may send something.
func (f *fetching) states() []transfer.State {
	f.mu.Lock()
	want := f.want
	f.mu.Unlock()
	var states []transfer.State
	for _, s := range f.pool.roster.Ever() {
		u := Upstream{URL: s.Name}
		u.State, u.Transfers, u.Err = f.pool.roster.State(s)
		states = append(states, transfer.State{Server: s, Upstream: u})
	}
	states = append(states, f.pool.swarm.States()...)
	for i := range states {
		u, s := &states[i].Upstream, states[i].Server
		refused := want.Refused(s)
		if refused == nil {
			refused = f.choice.Distrusted(s)
		}
		if refused != nil && !errors.Is(refused, fs.ErrNotExist) { // that is, it has no manifest, or lacks a shard
			u.State, u.Err = Refused, refused
		}
	}
	return states
}

const (
	// askAgain is the time between two questions to upstreams that are down, or do not
	// offer what is fetched.
	askAgain = 10 * time.Second

	// askFirst is the wait before the latter are asked for the first time. It is doubled, up
	// to askAgain: they may be about to have it.
	askFirst = time.Second
)

// askLacking asks upstreams that do not list v, or are down, again and again until ctx ends, and
// with a key the others, too, as they may learn that v was withdrawn.
func (p *Pool) askLacking(ctx context.Context, v shard.Version) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ask := func(servers []*remote.Server) {
		for _, s := range servers {
			asking.Go(func() { _ = p.offers.Ask(ctx, s) }) // it has logged what was wrong
		}
	}
	asking.Go(func() {
		for wait := (backoff.Doubling{First: askFirst, Most: askAgain}); roster.Sleep(ctx, wait.Next(), nil) == nil; {
			ask(p.offers.Without(v, false))
		}
	})
	for roster.Sleep(ctx, backoff.Jitter(askAgain), nil) == nil {
		if p.offers.Signed() {
			ask(p.roster.Servers())
		} else {
			ask(p.offers.Without(v, true))
		}
	}
}

// logEvery is the time between two log lines of a fetch.
const logEvery = 10 * time.Second

// logProgress returns a callback that logs a line now and then, but none in the end.
func (p *Pool) logProgress() func(Progress) {
	next := logEvery
	return func(now Progress) {
		if now.Elapsed < next || now.Size < 0 {
			return
		}
		next = now.Elapsed + logEvery
		percent := 100.0
		if now.Size > 0 {
			percent = 100 * float64(now.Done) / float64(now.Size)
		}
		p.opts.Logger.Info("fetching", "version", now.Version.String(), "phase", now.Phase,
			"percent", fmt.Sprintf("%.1f", percent), "bytes", now.Done, "size", now.Size, "speed", int64(now.Speed))
	}
}
