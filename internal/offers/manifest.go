package offers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// A Manifest is one that a server has given.
type Manifest struct {
	// Entry is the version, by the digest that the source lists.
	Entry distfile.Entry

	// Stated is what it states.
	Stated shard.Manifest

	// Text is the manifest as the server has written it, or nil where no server has one.
	Text []byte

	// Source is the server.
	Source *remote.Server

	// Tier is how many servers the version comes through: 1 if the source holds all of it.
	Tier int
}

// Manifest returns the manifest of e from one of the servers that list it, each of which
// is asked once; where none of them has one, of one that lists it by its other digest.
// Errors match [fs.ErrNotExist] if the servers that answered have none,
// [shard.ErrIntegrity] if theirs contradict the distribution, [remote.ErrUnreachable] if
// none answered, and [ErrNoVersion] if none lists e any more.
func (o *Offers) Manifest(ctx context.Context, e distfile.Entry) (shard.Manifest, error) {
	m, err := o.manifest(ctx, e, e)
	if err != nil && errors.Is(err, fs.ErrNotExist) && !o.Signed() {
		if _, another, ok := o.another(ctx, e); ok {
			return another, nil
		}
	}
	return m, err
}

// manifest is Manifest for the servers that list e, if theirs is of wanted, too.
func (o *Offers) manifest(ctx context.Context, e, wanted distfile.Entry) (shard.Manifest, error) {
	var m Manifest
	w := o.description(e)
	job := w.Job(func(s *remote.Server) (err error) {
		m, err = o.manifestAt(ctx, s, e, wanted)
		return err
	})
	failed, _, err := o.opts.Roster.Attempt(ctx, job)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil && !roster.Is(err, roster.Stop):
		err = w.Failed(slices.Concat(failed, o.opts.Roster.Busy(job).Said))
	}
	if err != nil {
		return shard.Manifest{}, fmt.Errorf("fetch the manifest of %s: %w", e.Version, Named(err))
	}
	return m.Stated, nil
}

// another returns how other servers list the file of e where none that lists e has a
// manifest: by another digest, with a manifest that states both. Its bytes show whether it
// is right.
func (o *Offers) another(ctx context.Context, e distfile.Entry) (distfile.Entry, shard.Manifest, bool) {
	tried := []distfile.Entry{o.listings.canonical(e)}
	for _, other := range o.listings.all(o.opts.Roster.Servers()) {
		other.Count = 0
		if other.Version != e.Version || slices.Contains(tried, other) {
			continue
		}
		tried = append(tried, other)
		if m, err := o.manifest(ctx, other, e); err == nil {
			return other, m, true
		}
	}
	return e, shard.Manifest{}, false
}

// A Choice is the choosing of a manifest for one fetch. A manifest is believed until
// the bytes do not fit, see [Choice.Distrust].
type Choice struct {
	offers   *Offers
	entry    distfile.Entry
	want     *Want // whose refused servers are distrusted
	tried    []shard.Manifest
	last     error // of those that were tried
	switched bool  // to servers that list another digest of it
	sole     bool  // one manifest alone is right: the publisher has signed its digest
}

// Choose returns the choosing of a manifest for e.
func (o *Offers) Choose(e distfile.Entry) *Choice {
	return &Choice{offers: o, entry: e, want: o.description(e), sole: o.Signed()}
}

// Distrusted returns why the manifest of s is not believed, or nil.
func (c *Choice) Distrusted(s *remote.Server) error { return c.want.Refused(s) }

// ErrPlain means that servers list a version, and none of them has a manifest of it.
var ErrPlain = errors.New("no server has a manifest")

// Next returns a manifest that was not tried, of a server that is not distrusted, which
// states the wanted digest. Where no server that lists that has a manifest, it is of one
// that lists the file's other digest. Errors match [ErrPlain], are those of
// [roster.Roster.Try], or why the last manifest was distrusted if no server lists the
// version any more. With a key there is one manifest, which any server may have, and neither
// another digest nor ErrPlain.
func (c *Choice) Next(ctx context.Context) (Manifest, error) {
	if c.sole {
		return c.one(ctx)
	}
	m, err := c.next(ctx)
	if err != nil && !c.switched && c.want.lacked() && ctx.Err() == nil {
		other, _, ok := c.offers.another(ctx, c.entry)
		if !ok {
			return Manifest{}, ErrPlain
		}
		c.want, c.switched = c.offers.description(other), true
		m, err = c.next(ctx)
	}
	if err != nil && c.switched && ctx.Err() == nil {
		return Manifest{}, ErrPlain // the servers that list the wanted digest have no manifest
	}
	if c.last != nil && errors.Is(err, ErrNoVersion) {
		return Manifest{}, c.last // which is why it is not listed any more
	}
	if err != nil {
		return Manifest{}, err
	}
	return c.richer(ctx, m), nil
}

// one returns the manifest that the publisher has signed, if it was not tried.
func (c *Choice) one(ctx context.Context) (Manifest, error) {
	if c.last != nil {
		return Manifest{}, c.last
	}
	m, err := c.next(ctx)
	if err != nil && ctx.Err() == nil && c.want.lacked() {
		err = fmt.Errorf("no server has the manifest that the publisher has signed: %w", err)
	}
	return m, err
}

// relayAgain is when a relay is asked again whose manifest was not right: it finds that
// out as we do, and gets another one.
const relayAgain = 2 * time.Second

func (c *Choice) next(ctx context.Context) (m Manifest, err error) {
	job := c.want.Job(func(s *remote.Server) (err error) {
		if m, err = c.offers.manifestAt(ctx, s, c.want.Entry, c.entry); err != nil {
			return err
		}
		if !alreadyTried(c.tried, m.Stated) {
			return nil
		}
		if err = fmt.Errorf("%s: its manifest states the same", s.Name); m.Tier > 1 {
			return &remote.Busy{Err: err, Wait: relayAgain}
		}
		return roster.Wrong(err)
	})
	job.First = c.offers.first(c.want)
	err = c.offers.opts.Roster.Try(ctx, job)
	return m, err
}

// Distrust has m not returned again, since the bytes do not fit, and its source not asked
// for one, unless that is a relay which finds out as we do.
func (c *Choice) Distrust(m Manifest, err error) {
	c.offers.opts.Logger.Warn("manifest not believed",
		"version", c.want.Entry.Version.String(), "upstream", m.Source.Name, "err", err)
	c.tried, c.last = append(c.tried, m.Stated), fmt.Errorf("by the manifest of %s: %w", m.Source.Name, err)
	if m.Tier == 1 || !c.want.has(m.Source, c.want.Entry) {
		c.want.refuse(m.Source, c.last)
	}
}

// voteFor is how long other servers have to state what they know of a manifest: one that hangs
// has no vote.
const voteFor = 5 * time.Second

// Agree returns nil if more than half of the servers that list the version of m, and answer
// with a manifest, state the shards and files of m. Otherwise the error matches
// [shard.ErrIntegrity], or is the cause of ctx's end.
func (o *Offers) Agree(ctx context.Context, m Manifest) error { return o.authority.agree(ctx, m) }

// mostState is Agree by the word of the servers.
func (o *Offers) mostState(ctx context.Context, m Manifest) error {
	bounded, cancel := context.WithTimeout(ctx, voteFor)
	defer cancel()
	w := o.description(m.Entry)
	votes := make(chan string) // the names of servers that state another manifest, or nothing
	var asking sync.WaitGroup
	for _, s := range o.opts.Roster.Servers() {
		if s == m.Source || !w.May(s) {
			continue
		}
		asking.Go(func() {
			other, err := o.manifestAt(bounded, s, m.Entry, m.Entry)
			if other.Stated.Files == nil {
				other.Stated.Files = m.Stated.Files // servers of before there were trees strip that
			}
			switch {
			case err != nil:
			case alreadyTried([]shard.Manifest{m.Stated}, other.Stated):
				votes <- ""
			default:
				votes <- s.Name
			}
		})
	}
	go func() {
		asking.Wait()
		close(votes)
	}()
	agree, others := 1, []string(nil)
	for name := range votes {
		if name == "" {
			agree++
		} else {
			others = append(others, name)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if agree > len(others) {
		return nil
	}
	slices.Sort(others)
	return remote.Matching(fmt.Errorf("its shards are stated by %d of %d servers, and others by %s",
		agree, agree+len(others), strings.Join(others, ", ")), shard.ErrIntegrity)
}

// alreadyTried reports whether one of tried has the same shards and files as m.
func alreadyTried(tried []shard.Manifest, m shard.Manifest) bool {
	return slices.ContainsFunc(tried, func(t shard.Manifest) bool {
		return t.Size == m.Size && t.ShardSize == m.ShardSize && slices.Equal(t.Shards, m.Shards) &&
			(t.Files == nil) == (m.Files == nil) && (t.Files == nil || *t.Files == *m.Files)
	})
}

// mostAfter bounds the white space after a manifest in bytes.
const mostAfter = 4 << 10

// A text is a manifest as a server has sent it.
type text struct {
	stated shard.Manifest
	bytes  []byte
	tier   int
}

// manifestText gets the manifest of v from s.
func (o *Offers) manifestText(ctx context.Context, s *remote.Server, v shard.Version) (t text, err error) {
	body, err := o.opts.Remote.Get(ctx, s, remote.Request{Path: []string{v.String(), shard.ManifestName}})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = &roster.Setback{Err: err, What: roster.Never}
	case errors.Is(err, remote.ErrForeign):
		err = roster.Wrong(err)
	}
	if err != nil {
		return t, err
	}
	defer body.Close()
	var all bytes.Buffer
	t.stated, err = shard.ParseManifest(io.TeeReader(body, &all))
	if err == nil { // white space may follow, which belongs to what was signed
		_, err = io.Copy(&all, io.LimitReader(body, mostAfter))
	}
	t.bytes, t.tier = all.Bytes(), tierOf(body)
	switch {
	case errors.Is(err, shard.ErrManifest):
		return t, roster.Wrong(fmt.Errorf("%s: %w", s.Name, err))
	case err != nil:
		return t, fmt.Errorf("%s: %w", s.Name, err)
	}
	return t, nil
}

// expected is a manifest that a server was asked for before it was known to list the version.
type expected struct {
	server  *remote.Server
	version shard.Version
	came    chan struct{} // closed when what follows is known

	text text
	err  error
}

// Expect asks the first server for the manifest of v while it is asked for its versions: over a long way that saves
// a round trip. The answer counts like one to a later question, and for the next of these alone; a failure does not.
func (o *Offers) Expect(v shard.Version) {
	servers := o.opts.Roster.Servers()
	if len(servers) == 0 {
		return // names are not resolved yet
	}
	e := &expected{server: servers[0], version: v, came: make(chan struct{})}
	if !o.expected.CompareAndSwap(nil, e) {
		return
	}
	o.expecting.Go(func() {
		defer close(e.came)
		ctx, cancel := context.WithTimeout(o.life, o.opts.Timeout)
		defer cancel()
		e.text, e.err = o.manifestText(ctx, e.server, v)
	})
}

// early returns the manifest of v that s was asked for by [Offers.Expect].
func (o *Offers) early(ctx context.Context, s *remote.Server, v shard.Version) (t text, ok bool) {
	e := o.expected.Load()
	if e == nil || e.server != s || e.version != v || !o.expected.CompareAndSwap(e, nil) {
		return t, false
	}
	select {
	case <-e.came:
		return e.text, e.err == nil
	case <-ctx.Done():
		return t, false
	}
}

// first returns the server that the manifest of e is expected from, if it lists that, or nil.
func (o *Offers) first(w *Want) *remote.Server {
	if e := o.expected.Load(); e != nil && e.version == w.Entry.Version && w.May(e.server) {
		return e.server
	}
	return nil
}

// manifestAt gets the manifest of e from s, which must be of wanted, too: the other digest
// of the file, or the same.
func (o *Offers) manifestAt(ctx context.Context, s *remote.Server, e, wanted distfile.Entry) (m Manifest, err error) {
	t, ok := o.early(ctx, s, e.Version)
	if !ok {
		if t, err = o.manifestText(ctx, s, e.Version); err != nil {
			return Manifest{}, err
		}
	}
	if !o.isOf(t.stated, wanted) { // which may be by its BLAKE3
		t.stated.BLAKE3, _ = o.blake3At(ctx, s, e.Version)
	}
	m = Manifest{Entry: e, Stated: t.stated, Text: t.bytes, Source: s, Tier: t.tier + 1}
	err = o.authority.judge(m)
	switch {
	case errors.Is(err, shard.ErrManifest):
		return Manifest{}, roster.Wrong(fmt.Errorf("%s: %w", s.Name, err))
	case err != nil:
		return Manifest{}, fmt.Errorf("%s: %w", s.Name, err)
	case !o.isOf(t.stated, wanted):
		err := fmt.Errorf("%s: %w: its manifest does not state the digest %s", s.Name, fs.ErrNotExist, wanted.Digest)
		return Manifest{}, &roster.Setback{Err: err, What: roster.Never}
	}
	return m, nil
}

// BLAKE3 returns that of the version of m as the server of m states it: a hint, which its bytes have
// to confirm. The error matches [fs.ErrNotExist] if the server does not know it.
func (o *Offers) BLAKE3(ctx context.Context, m Manifest) (shard.Digest, error) {
	return o.blake3At(ctx, m.Source, m.Entry.Version)
}

func (o *Offers) blake3At(ctx context.Context, s *remote.Server, v shard.Version) (shard.Digest, error) {
	body, err := o.opts.Remote.Get(ctx, s, remote.Request{Path: []string{v.String(), shard.BLAKE3Name}})
	if err != nil {
		return shard.Digest{}, err
	}
	defer body.Close()
	return shard.ParseBLAKE3(body)
}

// tierOf is the number of servers that what the server has is still on its way through.
func tierOf(body *remote.Body) int {
	passed, _ := strconv.ParseUint(body.Header.Get(wire.TierHeader), 10, 16)
	return int(passed)
}

// isOf reports whether m states a digest of e. A BLAKE3 from a server decides nothing: the bytes have
// to have the digest that is listed.
func (o *Offers) isOf(m shard.Manifest, e distfile.Entry) bool {
	return m.Digest == e.Digest || m.BLAKE3 == e.Digest || m.Digest == o.listings.canonical(e).Digest
}
