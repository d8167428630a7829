package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// cutPatience is how long nobody may tell of a version that was being cut before
	// it is given up.
	cutPatience = 10 * time.Second

	// cutsAgain is how long a server that does not know of such versions is not asked
	// for them, and cutsPause is the pause before the next question to one that does.
	cutsAgain = 5 * time.Minute
	cutsPause = time.Second
)

// A Cut is a version that is still being cut at its origin, of which shards can be
// fetched as they become known. Its methods may be called from any goroutine.
type Cut struct {
	// Outline is all that is known from the start.
	Outline shard.Outline

	// Tier is how many servers the version comes through up to here, see [Task].
	Tier int

	mu      sync.Mutex // guards what follows
	known   []shard.Known
	digests map[int]bool // which shards' are known
	whole   shard.Digest
	err     error
	told    int         // by so many upstreams, now, that are nearer to the origin than we
	expiry  *time.Timer // runs while that is none
	changed chan struct{}
}

// Entry is what stands for the version in a [Task]: in place of a digest it has what
// tells this cut from others.
func (c *Cut) Entry() distfile.Entry {
	return distfile.Entry{Version: c.Outline.Version, Digest: c.Outline.ID}
}

// offer is what c is on offer as in the end.
func (c *Cut) offer() distfile.Entry {
	return distfile.Entry{Version: c.Outline.Version, Digest: c.News(0).Digest}
}

// News are what has become known of a [Cut].
type News struct {
	// Shards are those that can be fetched, in the order in which that became known.
	// They are not to be changed.
	Shards []shard.Known

	// Digest is the whole file's, or zero while it is not known. Then the version is on
	// offer, and nothing more becomes known.
	Digest shard.Digest

	// Err says why no more becomes known otherwise. It matches [ErrNoVersion].
	Err error

	// More is closed when there is more to say.
	More <-chan struct{}
}

// News returns what has become known, but for the first had of the shards.
func (c *Cut) News(had int) News {
	c.mu.Lock()
	defer c.mu.Unlock()
	return News{c.known[had:len(c.known):len(c.known)], c.whole, c.err, c.changed}
}

// Await returns the digest of the whole file when it is known, and otherwise why it
// will not be, or what ended ctx.
func (c *Cut) Await(ctx context.Context) (shard.Digest, error) {
	for {
		switch news := c.News(0); {
		case news.Digest != shard.Digest{}, news.Err != nil:
			return news.Digest, news.Err
		default:
			select {
			case <-news.More:
			case <-ctx.Done():
				return shard.Digest{}, context.Cause(ctx)
			}
		}
	}
}

// learn takes note of what an upstream says. What another one has said stays.
func (c *Cut) learn(k shard.Known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil, c.whole != shard.Digest{}, c.digests[k.Shard]:
		return
	case k.Shard == 0:
		c.whole = k.Digest
		c.stopExpiry()
	default:
		c.digests[k.Shard] = true
		c.known = append(c.known, k)
	}
	c.wake()
}

// wake tells those who wait. The caller holds mu.
func (c *Cut) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// tell notes that so many upstreams more tell of c, or less, and has it given up when
// none has for long enough.
func (c *Cut) tell(more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told += more
	switch {
	case c.told > 0:
		c.stopExpiry()
	case c.whole == shard.Digest{} && c.err == nil:
		c.expiry = time.AfterFunc(cutPatience, func() { c.giveUp("no upstream tells of it any more") })
		c.wake()
	}
}

// stopExpiry is for holders of mu.
func (c *Cut) stopExpiry() {
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
}

// giveUp ends c, unless somebody tells of it or all is known.
func (c *Cut) giveUp(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == 0 && c.whole == (shard.Digest{}) && c.err == nil {
		c.err = kind{fmt.Errorf("%s is not finished: %s", c.Outline.Version, why), ErrNoVersion}
		c.wake()
	}
}

// is reports whether o tells of c. Its name is for people, and its date too.
func (c *Cut) is(o shard.Outline) bool {
	return c.Entry() == distfile.Entry{Version: o.Version, Digest: o.ID} &&
		c.Outline.Size == o.Size && c.Outline.ShardSize == o.ShardSize
}

// over reports whether c was given up.
func (c *Cut) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// FollowCuts calls found, from several goroutines, with each version that an upstream
// tells of while it is being cut, once for all upstreams, until ctx ends. It asks as
// the package comment says, and returns when all that it has begun has ended.
func (p *Pool) FollowCuts(ctx context.Context, found func(*Cut)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	p.each(ctx, func(ctx context.Context, u *upstream) {
		for sleep(ctx, p.hearCut(ctx, u, found), nil) == nil {
		}
	})
}

// hearCut hears what u tells of a cut, and returns how long to wait before it is asked
// again.
func (p *Pool) hearCut(ctx context.Context, u *upstream, found func(*Cut)) time.Duration {
	began := time.Now()
	body, err := p.get(ctx, u, request{
		path: []string{shard.OutlineName}, header: question{wait: longestWait}.header(), hold: longestWait, trickles: true,
	})
	if err == nil {
		defer body.Close()
		err = p.readCut(u, tierOf(body.header)+1, body, found)
	}
	if err != nil && ctx.Err() == nil {
		p.opts.Logger.Debug("what is being cut is not told", "upstream", u.name, "err", err)
	}
	later := busy{}
	switch {
	case errors.As(err, &later):
		return max(aQuarter(cutsPause), time.Duration(float64(later.wait)*(1+rand.Float64()/2)))
	case err == nil && !waitApplied(body.header) && body.empty, doesNotTell(err):
		return aQuarter(cutsAgain)
	case err != nil || time.Since(began) < hurried:
		return aQuarter(cutsPause)
	default:
		return 0
	}
}

// doesNotTell reports whether err says that an upstream knows nothing of cuts, or tells
// of them in a way that we do not understand. A bucket may say 403 of what is not there,
// and whoever has a page for that says 200.
func doesNotTell(err error) bool {
	var code status
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, shard.ErrOutline) || errors.Is(err, bufio.ErrTooLong) ||
		errors.As(err, &code) && (code == http.StatusNotImplemented || code/100 == 4 && code != http.StatusRequestTimeout)
}

// readCut reads what u tells of a cut, to the end.
func (p *Pool) readCut(u *upstream, tier int, text io.Reader, found func(*Cut)) error {
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, shard.MaxOutlineLine)
	lines.Split(func(data []byte, _ bool) (int, []byte, error) { return bufio.ScanLines(data, false) }) // half a line is none
	if !lines.Scan() {
		return lines.Err()
	}
	outline, err := shard.ParseOutline(lines.Bytes())
	if err != nil {
		return err
	}
	c := p.cut(u, outline, tier, found)
	if tier <= c.Tier { // else it may have all that it tells from us, for as long as we tell it
		c.tell(1)
		defer c.tell(-1)
	}
	count := len(outline.Manifest().Shards)
	for told := 0; lines.Scan(); told++ {
		k, err := shard.ParseKnown(lines.Bytes(), count)
		if err == nil && told > count {
			err = fmt.Errorf("%w: more of them than shards", shard.ErrOutline)
		}
		if err != nil {
			return err
		}
		if k.Shard == 0 {
			p.listed(u, distfile.Entry{Version: outline.Version, Digest: k.Digest})
			c.learn(k)
			_, _ = io.CopyN(io.Discard, text, drained) // nothing follows, and none of it would be believed
			return nil
		}
		c.learn(k)
	}
	return lines.Err()
}

// cut returns what u tells of, and calls found if nobody has told of it before. One
// that was given up is found again if it comes no longer way than then: else those who
// have it from one another would find it in turn for ever.
func (p *Pool) cut(u *upstream, outline shard.Outline, tier int, found func(*Cut)) *Cut {
	p.mu.Lock()
	var c *Cut
	for _, other := range p.all() {
		if o := other.cut; o != nil && o.is(outline) && (c == nil || c.over()) && (!o.over() || tier > o.Tier) {
			c = o
		}
	}
	isNew := c == nil
	if isNew {
		c = &Cut{Outline: outline, Tier: tier, digests: make(map[int]bool), changed: make(chan struct{})}
	}
	if !u.gone {
		u.cut = c
	}
	p.mu.Unlock()
	if isNew {
		found(c)
	}
	return c
}

// listed notes that u offers e, before it says so in its distribution.
func (p *Pool) listed(u *upstream, e distfile.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !u.gone && !slices.ContainsFunc(u.offered, e.Same) {
		u.offered = append(slices.Clone(u.offered), e)
		u.changed = time.Now()
		p.tell()
	}
}

// complete learns from the manifest of what is on offer by c's number all that nobody
// tells of it any more, if that can be the same file.
func (c *Cut) complete(m shard.Manifest) {
	if m.Size != c.Outline.Size || m.ShardSize != c.Outline.ShardSize {
		return
	}
	c.mu.Lock()
	fits := c.told == 0 && !slices.ContainsFunc(c.known, func(k shard.Known) bool { return m.Shards[k.Shard-1] != k.Digest })
	c.mu.Unlock()
	if !fits {
		return
	}
	for i, d := range m.Shards {
		c.learn(shard.Known{Shard: i + 1, Digest: d})
	}
	c.learn(shard.Known{Digest: m.Digest})
}

// silent reports whether nobody tells of c now, and its end was not told.
func (c *Cut) silent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told == 0 && c.err == nil && c.whole == shard.Digest{}
}

// hearEnd hears of the end of a cut from who lists it, if nobody tells of it: all may
// have missed how it ended.
func (f *fetching) hearEnd(ctx context.Context, c *Cut) {
	if !c.silent() {
		return
	}
	for _, e := range f.Offers() {
		if e.Version == c.Outline.Version {
			if m, err := f.Manifest(ctx, e); err == nil {
				c.complete(m)
			}
			return
		}
	}
}

// hearOf has the shards of a cut begun as they become known.
func (f *fetching) hearOf(ctx context.Context, c *Cut) error {
	for had := 0; ; {
		offered := f.untilNews()
		f.hearEnd(ctx, c)
		news := c.News(had)
		had += len(news.Shards)
		f.mu.Lock()
		for _, k := range news.Shards {
			f.digests[k.Shard-1] = k.Digest
		}
		f.wake()
		f.mu.Unlock()
		switch {
		case news.Err != nil:
			return news.Err
		case news.Digest == shard.Digest{}:
		case had < len(f.digests):
			return kind{fmt.Errorf("only %d of %d shards have digests, and the whole has one", had, len(f.digests)), ErrIntegrity}
		default:
			return nil
		}
		select {
		case <-news.More:
		case <-offered:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
