// Package verify says whether the bytes of shards and of the whole file are right, and if
// not, which server is to blame. It refuses to know servers beyond their names, and files
// beyond [io.ReaderAt].
//
// A caller may lean on this: a [Verdict] is right only if all bytes of the shard agree with
// its digest, and [Verifier.Whole] returns nil only if the whole agrees with what is
// listed. No server is blamed for bytes that another one sent, and a relay for bytes that it
// could not know to be wrong only in the third shard.
//
// # Ways of checking
//
// Shards of a file that needs digests of other kinds are checked one by one as soon as they
// have come, and the file's digests are computed behind. All others are checked in their
// order, in the one pass that the file's digest takes anyhow: that costs half as much. A
// wrong shard is found then when all before it have come; so the first shard from each
// server is verified at once, and a server that sends only bad data costs one shard. One
// that is wanted before its turn can be checked by itself, see [Verifier.Waiting]. Checking
// one by one may begin later, see [Verifier.Each], and never ends.
//
// Where the publisher has signed the manifest, each shard is checked by itself, while it comes, by
// the worker that receives it: as many are hashed at the same time as there are cores, and no
// digest of the file is.
//
// # Blame
//
// A shard that one server sent in one part, and that is wrong, is that server's fault.
// Where several servers, or an earlier download, have sent parts of it, the shard comes
// once more from one server alone: when it is right then, the servers whose bytes differ
// from it are to blame.
package verify

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/shardcast/shardcast/internal/shard"
)

// Options configure a [Verifier].
type Options struct {
	// Manifest is what the shards are checked against. Where Plain is set, it states no
	// digests of shards.
	Manifest shard.Manifest

	// Listed is the file's digest in the distribution: its SHA-256 or its BLAKE3.
	Listed shard.Digest

	// Plain says that no server has a manifest.
	Plain bool

	// Signed says that the publisher has signed the manifest: its digests of shards vouch for
	// the file, whose SHA-256 is not computed.
	Signed bool

	// Part are the numbers of the shards to check, one by one, and the whole is not checked.
	// Nil means all.
	Part map[int]bool

	// BLAKE3 has that of the file computed, also where nothing depends on it.
	BLAKE3 bool

	// Open opens a shard that was right, to be read again.
	Open func(shard.Shard) (Place, error)
}

// A Place is where a shard can be read.
type Place interface {
	io.ReaderAt
	io.Closer
}

// A Verifier checks one file. Its methods may be called from any goroutine.
type Verifier struct {
	opts    Options
	each    atomic.Bool
	strikes strikes
	// Two of these are nil. A fourth way of checking goes into New, Waiting, Came and Whole.
	order  *order
	behind *behind
	some   *some
}

// New returns a Verifier that has seen nothing yet.
func New(opts Options) *Verifier {
	v := &Verifier{opts: opts, strikes: strikes{count: make(map[string]int)}}
	if opts.Part != nil || opts.Signed && !opts.BLAKE3 {
		v.each.Store(true)
		v.some = newSome(opts)
	} else if opts.BLAKE3 || opts.Plain || opts.Manifest.Digest != opts.Listed {
		v.each.Store(true)
		v.behind = newBehind(opts)
	} else {
		v.order = newOrder(opts)
	}
	return v
}

// Each has the shards that come from now on checked one by one. Those that have come, and
// wait for their turn, are returned by [Verifier.Waiting].
func (v *Verifier) Each() { v.each.Store(true) }

// Waiting returns a shard that waits for its turn although shards are checked one by one, or
// whose turn depends on shards that have yet to come and of which early reports true. Otherwise
// it returns nil. The caller passes the shard to [Verifier.Came] again, which checks it by itself.
func (v *Verifier) Waiting(early func(number int) bool) *Check {
	if v.order == nil {
		return nil
	}
	return v.order.waiting(v.each.Load(), early)
}

// Began returns the checking of s, which is written to a place that can be read at the
// same time. Present is how many bytes of it were there before.
func (v *Verifier) Began(s shard.Shard, at io.ReaderAt, present int64) *Check {
	c := newCheck(s, at, present, v.each.Load())
	c.strikes = &v.strikes
	return c
}

// A Verdict says how a shard is, all of which has come.
type Verdict struct {
	Check *Check

	// Right says that the bytes agree with the digest. Where the manifest states none, Got
	// is the digest.
	Right bool
	Got   shard.Digest

	// Err says what is wrong.
	Err error

	// Blame are the servers whose bytes are known to be wrong, of this shard as it was or as
	// it is.
	Blame []string

	// Alone says that the shard is to come again from one server alone.
	Alone bool
}

// Came checks c, all of which has come, and other shards whose turn it is then. It yields a
// verdict for each that is right or wrong now; the caller keeps those that are right, and
// calls [Check.Again] for those that are wrong, before it takes the next one. It ends
// after the first that is wrong, and after an error, which is one of a place or what ended
// ctx.
func (v *Verifier) Came(ctx context.Context, c *Check, buf []byte) iter.Seq2[Verdict, error] {
	return func(yield func(Verdict, error) bool) {
		c.each = c.each || v.each.Load()
		if c.each {
			verdict, err := c.verdict(buf)
			if !yield(verdict, err) || err != nil || !verdict.Right {
				return
			}
		}
		if v.some != nil {
			v.some.kept <- c.Shard.Number // has room for each once
			return
		}
		if v.behind != nil {
			v.behind.kept <- c.Shard.Number // has room for each once
			return
		}
		v.order.came(ctx, c, buf, yield)
	}
}

// Whole waits until all shards are right, or those of a part, whose digests are those that the
// manifest states, and returns the digests of the file, of which
// the BLAKE3 is zero if nothing depends on it. Errors match [shard.ErrIntegrity] if they
// are not what is listed or what the manifest states, and are those of places, or what
// ended ctx, otherwise.
func (v *Verifier) Whole(ctx context.Context) (sha256, blake3 shard.Digest, err error) {
	if v.some != nil {
		return v.opts.Manifest.Digest, v.opts.Manifest.BLAKE3, v.some.whole(ctx)
	}
	if v.order != nil {
		sha256, err = v.order.whole(ctx)
	} else {
		sha256, blake3, err = v.behind.whole(ctx)
	}
	if err != nil {
		return sha256, blake3, err
	}
	return sha256, blake3, v.compare(sha256, blake3)
}

func (v *Verifier) compare(sha256, blake3 shard.Digest) error {
	stated := v.opts.Manifest
	haveBoth := blake3 != shard.Digest{} && stated.BLAKE3 != shard.Digest{}
	switch {
	case sha256 != v.opts.Listed && blake3 != v.opts.Listed:
		return integrity("the file's digest is %s instead of %s, although all its shards are there",
			sha256, v.opts.Listed)
	case v.opts.Plain:
		return nil
	case sha256 != stated.Digest, haveBoth && blake3 != stated.BLAKE3:
		return integrity("the file is what is offered, but its manifest has other digests: %s, and %s by BLAKE3",
			stated.Digest, stated.BLAKE3)
	}
	return nil
}

// integrity is an error that matches [shard.ErrIntegrity] without naming it: the package
// that adds the names of servers does.
func integrity(format string, args ...any) error { return mismatch(fmt.Sprintf(format, args...)) }

type mismatch string

// Error returns the text.
func (m mismatch) Error() string { return string(m) }

// Is reports whether target is [shard.ErrIntegrity].
func (m mismatch) Is(target error) bool { return target == shard.ErrIntegrity }

// readAll reads size bytes of a place into w.
func readAll(w io.Writer, at io.ReaderAt, size int64, buf []byte) error {
	n, err := io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(at, 0, size)}, buf)
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
