package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Sink keeps the shards of one version. Its methods are called for different
// shards at the same time.
type Sink interface {
	// Open opens a shard that is kept, for reading. An error matching
	// [fs.ErrNotExist] means that it is not kept. What it reads is checked, so it
	// may be anything.
	Open(s shard.Shard) (io.ReadCloser, error)

	// Create returns a writer for a shard, which is kept once it is committed.
	Create(s shard.Shard) (shard.Writer, error)
}

// fetching is the fetch of one version by one manifest.
type fetching struct {
	*Pool

	entry    distfile.Entry
	manifest shard.Manifest
	source   *upstream // of the manifest
	sink     Sink
	refused  refusals
	kept     chan int // shards that are in the sink, right by their digests
}

// Fetch brings all shards of e to the sink that open returns for its manifest,
// and returns that manifest, only if every shard agrees with it and the whole
// with e.Digest. What the sink keeps already is checked, and fetched again if it
// is wrong. The shards are begun in ascending order; the digest of the whole is
// computed from the sink as soon as all shards before have come.
//
// A manifest is believed until the bytes do not fit: then its upstream is not
// asked again, and open is called again for the manifest of another one.
//
// Errors match [ErrIntegrity] if no upstream has the right bytes, [ErrNoVersion]
// if none offers e any more, [ErrUnreachable] if none answers, and
// [fs.ErrNotExist] if none has a manifest or a shard. Others are those of open
// and of the sink, what ended ctx, or say what the upstreams answered.
func (p *Pool) Fetch(ctx context.Context, e distfile.Entry, open func(shard.Manifest) (Sink, error)) (shard.Manifest, error) {
	var distrusted refusals
	var tried []shard.Manifest
	for {
		f := &fetching{Pool: p, entry: e}
		err := p.retry(ctx, e, &distrusted, func(u *upstream) (err error) {
			f.source = u
			if f.manifest, err = p.manifest(ctx, u, e); err == nil && alreadyTried(tried, f.manifest) {
				err = wrong(fmt.Errorf("%s: its manifest says the same", u.name))
			}
			return err
		})
		if err == nil {
			f.sink, err = open(f.manifest)
		}
		if err != nil {
			return shard.Manifest{}, fmt.Errorf("fetch %s: %w", e.Version, named(err))
		}
		err = f.run(ctx)
		if err == nil {
			return f.manifest, nil
		}
		if !errors.Is(err, ErrIntegrity) {
			return shard.Manifest{}, fmt.Errorf("fetch %s: %w", e.Version, named(err))
		}
		p.opts.Logger.Warn("manifest not believed", "version", e.Version.String(), "upstream", f.source.name, "err", err)
		tried = append(tried, f.manifest)
		distrusted.add(f.source, fmt.Errorf("by the manifest of %s: %w", f.source.name, err))
	}
}

// alreadyTried reports whether one of tried has the same shards as m.
func alreadyTried(tried []shard.Manifest, m shard.Manifest) bool {
	return slices.ContainsFunc(tried, func(t shard.Manifest) bool {
		return t.Size == m.Size && t.ShardSize == m.ShardSize && slices.Equal(t.Shards, m.Shards)
	})
}

// run brings all shards to the sink.
func (f *fetching) run(ctx context.Context) error {
	f.kept = make(chan int, len(f.manifest.Shards))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.fetchShards(ctx) })
	group.Go(func() error { return f.checkWhole(ctx) })
	return group.Wait()
}

func (f *fetching) fetchShards(ctx context.Context) error {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(f.opts.Concurrency)
	for number := 1; number <= len(f.manifest.Shards) && ctx.Err() == nil; number++ {
		workers.Go(func() error { return f.fetchShard(ctx, f.manifest.Shard(number)) })
	}
	return workers.Wait()
}

// fetchShard brings one shard to the sink.
func (f *fetching) fetchShard(ctx context.Context, s shard.Shard) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	buf, _ := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	if !f.keeps(s, *buf) {
		err := f.retry(ctx, f.entry, &f.refused, func(u *upstream) error { return f.transfer(ctx, u, s, *buf) })
		if err != nil {
			return fmt.Errorf("shard %d: %w", s.Number, err)
		}
	}
	f.kept <- s.Number
	return nil
}

// keeps reports whether the sink has the right bytes of s.
func (f *fetching) keeps(s shard.Shard, buf []byte) bool {
	r, err := f.sink.Open(s)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		err = errors.Join(s.Verify(r, buf), r.Close())
	}
	if err != nil {
		f.opts.Logger.Warn("kept shard is fetched again", "version", f.entry.Version.String(), "shard", s.Number, "err", err)
	}
	return err == nil
}

// transfer gets s from u into the sink. An error of u's is a refusal if u sent
// something that is not s.
func (f *fetching) transfer(ctx context.Context, u *upstream, s shard.Shard, buf []byte) error {
	start := time.Now()
	body, err := f.get(ctx, u, f.entry.Version.String(), shard.FileName(s.Number))
	if err != nil {
		return err
	}
	defer body.Close()
	blame := func(err error) error { return wrong(fmt.Errorf("%s: %w", u.name, err)) }
	out, err := f.sink.Create(s)
	if err != nil {
		return local{err}
	}
	defer out.Close()
	check := shard.NewCheck(s)
	for {
		n, rerr := body.Read(buf)
		if _, err := check.Write(buf[:n]); err != nil {
			return blame(err)
		}
		if _, err := out.Write(buf[:n]); err != nil {
			return local{err}
		}
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return fmt.Errorf("%s: shard %d broke off: %w", u.name, s.Number, rerr)
		}
	}
	if err := check.Close(); err != nil {
		return blame(err)
	}
	dur := time.Since(start)
	if err := out.Commit(); err != nil {
		return local{err}
	}
	f.rank.Delivered(u.index, s.Size, dur)
	f.opts.Logger.Debug("shard fetched", "version", f.entry.Version.String(), "shard", s.Number,
		"upstream", u.name, "bytes", s.Size, "dur", dur)
	return nil
}

// checkWhole computes the digest of the whole file, from the sink, behind the
// shards as they come.
func (f *fetching) checkWhole(ctx context.Context) error {
	buf, _ := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	whole := sha256.New()
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
		r, err := f.sink.Open(f.manifest.Shard(next + 1))
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(whole, struct{ io.Reader }{r}, *buf)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	if got := shard.Digest(whole.Sum(nil)); got != f.entry.Digest {
		return kind{fmt.Errorf("the file's digest is %s instead of %s, although every shard agrees with the manifest",
			got, f.entry.Digest), ErrIntegrity}
	}
	return nil
}
