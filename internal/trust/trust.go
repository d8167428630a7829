// Package trust decides which release a reader believes, of all that servers offer. It refuses to
// know how releases travel, and what a reader does with the versions that they list.
//
// A reader pins keys and a feed, and servers offer texts. What a caller may lean on:
//
//   - The newest release was signed by a pinned key, for this feed, as it is.
//   - It is the highest by epoch and number that any server has offered, over all pinned keys.
//     A lower one is ignored and counted, another text of the same epoch and number is refused.
//   - It is on the disk before a caller sees it, with its text. So a process that begins again in
//     the same state directory knows it, though its only server offers an older one. Of each key
//     there is one file, the newest release that it has signed: it speaks for itself, so nothing
//     can fall out of step, and minisign checks it. Several processes may share the directory.
//   - The releases of a key that is no longer pinned do not count, neither now nor as the past.
//   - An account that can write to the state directory can take the memory of a node away, or put an older
//     one in its place, and cannot make it believe anything that no pinned key has signed.
//
// The time of a node is the later of its clock and the time at which the newest release of each
// pinned key was issued, so a clock that lags cannot hide that a release is old. A publisher whose
// clock was ahead for a while sets that right with the next release.
package trust

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
)

// clockTolerance is how far the time of issue may be ahead of the clock of this machine without
// a warning.
const clockTolerance = 10 * time.Minute

// Errors of a Keeper.
var (
	// ErrNotTrusted means that what a server offers is not the publisher's word.
	ErrNotTrusted = errors.New("not trusted")

	// ErrExpired means that the newest release says nothing about the present any more.
	ErrExpired = errors.New("the release has expired")
)

// Options configure a [Keeper]. Keys and Feed are required.
type Options struct {
	// Keys are the publisher's public keys; of several, each counts.
	Keys []release.PublicKey

	// Feed is the list to follow, of those that the keys sign.
	Feed string

	// Dir is the state directory, which is made when it is needed. If it is empty, or cannot be
	// used, which is logged once, the Keeper remembers nothing beyond this process.
	Dir string

	// Now is the clock. Nil means [time.Now].
	Now func() time.Time

	// Logger receives a warning for each release that is refused, when it is first seen at a
	// server. Nil discards.
	Logger *slog.Logger
}

// Keeper remembers the newest release of a feed, and which server offers what. All its methods
// may be called at any time.
type Keeper struct {
	keys  []release.PublicKey
	feed  string
	now   func() time.Time
	log   *slog.Logger
	state state

	offering sync.Mutex // held while a release is judged and written; taken before mu

	mu       sync.Mutex                // guards all below
	known    map[string]release.Signed // the newest release of each pinned key, by the key's string
	newest   release.Signed            // of these; without one its Bytes are empty
	standing map[string]*Server
	counts   Counts
}

// Open returns a Keeper with what it has remembered in the state directory. The error says that the
// options make no sense; a directory that cannot be read is only logged.
func Open(opts Options) (*Keeper, error) {
	if len(opts.Keys) == 0 {
		return nil, errors.New("Keys is empty: releases can be trusted by a public key only")
	}
	if err := release.CheckFeed(opts.Feed); err != nil {
		return nil, fmt.Errorf("Feed: %w", err)
	}
	k := &Keeper{
		keys: opts.Keys, feed: opts.Feed, now: opts.Now, log: opts.Logger,
		known: make(map[string]release.Signed), standing: make(map[string]*Server),
	}
	if k.now == nil {
		k.now = time.Now
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	k.state = state{dir: opts.Dir, log: k.log}
	k.learn(k.recall())
	return k, nil
}

// Offer judges the text that a server has as its release.txt, which is kept and must not be changed;
// an empty one means that the server has none. It returns once the release is on the disk, and
// news reports whether [Keeper.Newest] has changed. A release that is known, or older than the
// newest one, is no error. Errors match [ErrNotTrusted]; the wait for another process in the state
// directory ends with ctx, and the release is used without being remembered then.
func (k *Keeper) Offer(ctx context.Context, server string, file []byte) (news bool, err error) {
	k.offering.Lock()
	defer k.offering.Unlock()
	before := k.current().Digest()
	v := k.judge(ctx, server, file)
	k.note(server, v)
	if newest := k.current(); newest.Digest() != before {
		news = true
		k.announce(newest.Release)
	}
	if v.err != nil {
		return news, fmt.Errorf("%w: the release that %s offers: %w", ErrNotTrusted, server, v.err)
	}
	return news, nil
}

// Newest returns the newest release, which may have expired, and false while there is none.
func (k *Keeper) Newest() (release.Signed, bool) {
	newest := k.current()
	return newest, len(newest.Bytes()) > 0
}

// Check returns nil while the newest release is valid. Otherwise the error matches [ErrExpired], or
// [ErrNotTrusted] if there is no release yet, and says of each server why.
func (k *Keeper) Check() error {
	newest, ok := k.Newest()
	if !ok {
		return fmt.Errorf("%w: there is no release of the feed %s by %s%s", ErrNotTrusted, k.feed,
			k.pinned(), k.reasons())
	}
	r, now := newest.Release, k.Time()
	if !r.ExpiredAt(now) {
		return nil
	}
	return fmt.Errorf("%w: the newest one of the feed %s is number %d of epoch %d, issued at %s and valid until %s, "+
		"and it is %s now; no server has a newer one, or the clock of this machine is wrong", ErrExpired,
		k.feed, r.Seq, r.Epoch, stamp(r.Issued), stamp(r.Expires), stamp(now))
}

// Time returns the later of the clock and the time of issue of the releases that are remembered.
func (k *Keeper) Time() time.Time {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.known {
		if r.Release.Issued.After(now) {
			now = r.Release.Issued
		}
	}
	return now
}

// current returns the newest release, or a zero one.
func (k *Keeper) current() release.Signed {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest
}

// A verdict is the judgement of one text that a server has offered.
type verdict struct {
	state  State
	err    error        // why it is refused
	digest shard.Digest // of the text and its signature
	rank   rank         // if its signature is right
}

// rank is the place of a release among others, with the digest of its text.
type rank struct {
	epoch, seq uint64
	text       shard.Digest
}

func rankOf(s release.Signed) rank {
	return rank{epoch: s.Release.Epoch, seq: s.Release.Seq, text: s.TextDigest()}
}

// compare orders ranks as [release.Release.Compare] does.
func (r rank) compare(other rank) int {
	return cmp.Or(cmp.Compare(r.epoch, other.epoch), cmp.Compare(r.seq, other.seq))
}

// judge decides about an offer, and remembers a release that is newer. The caller holds offering.
func (k *Keeper) judge(ctx context.Context, server string, file []byte) verdict {
	if len(file) == 0 {
		return verdict{state: StateNone}
	}
	newest := k.current()
	if bytes.Equal(newest.Bytes(), file) {
		return verdict{state: StateNewest, digest: newest.Digest(), rank: rankOf(newest)}
	}
	v := verdict{digest: sha256.Sum256(file)}
	if earlier, ok := k.lastOf(server); ok && earlier.digest == v.digest && earlier.state != StateNewest {
		return earlier // it does not become better
	}
	signed, key, err := k.verify(file)
	if err != nil {
		v.state, v.err = StateRefused, err
		return v
	}
	v.rank = rankOf(signed)
	if v.state, v.err = k.compare(v.rank, key); v.state == StateNewest {
		k.remember(ctx, signed, key)
		v.state, v.err = k.compare(v.rank, key) // another process may have seen a newer one
	}
	return v
}

// verify returns the release in a file if a pinned key has signed it for this feed, and that key.
func (k *Keeper) verify(file []byte) (release.Signed, release.PublicKey, error) {
	signed, err := release.Parse(file)
	if err != nil {
		return release.Signed{}, release.PublicKey{}, err
	}
	err = fmt.Errorf("it is signed by the key %s, and pinned is %s", signed.KeyID(), k.pinned())
	for _, key := range k.keys {
		if key.ID() != signed.KeyID() {
			continue
		}
		if err = signed.Verify(key); err != nil {
			continue
		}
		if signed.Release.Feed != k.feed {
			err = fmt.Errorf("it is of the feed %s, and wanted is %s", signed.Release.Feed, k.feed)
			return release.Signed{}, release.PublicKey{}, err
		}
		return signed, key, nil
	}
	return release.Signed{}, release.PublicKey{}, err
}

// compare reports how a verified release of a key stands to the newest one: a release that is
// newer or the same is StateNewest.
func (k *Keeper) compare(r rank, key release.PublicKey) (State, error) {
	newest := k.current()
	n := rankOf(newest)
	switch order := r.compare(n); {
	case order < 0:
		return StateOlder, nil
	case order == 0 && r.text != n.text:
		return StateRefused, fmt.Errorf("the key %s has signed it as number %d of epoch %d, under which the key %s "+
			"has signed another one; two directories publish one feed, or a key is in wrong hands",
			key.ID(), n.seq, n.epoch, newest.KeyID())
	default:
		return StateNewest, nil
	}
}

// remember makes a release that is newer than all others the newest one, once it is on the disk.
func (k *Keeper) remember(ctx context.Context, signed release.Signed, key release.PublicKey) {
	isNewest := func() bool {
		state, _ := k.compare(rankOf(signed), key)
		return state == StateNewest
	}
	k.state.update(ctx, func() (name string, file []byte) {
		k.learn(k.recall()) // another process may have been here
		if !isNewest() {
			return "", nil
		}
		return k.fileName(key), signed.Bytes()
	})
	if isNewest() {
		k.learn(map[string]release.Signed{key.String(): signed})
	}
}

// recall reads the state directory: the releases of the pinned keys.
func (k *Keeper) recall() map[string]release.Signed {
	found := make(map[string]release.Signed)
	for _, key := range k.keys {
		name := k.fileName(key)
		file := k.state.read(name)
		if len(file) == 0 {
			continue
		}
		signed, _, err := k.verify(file)
		if err != nil {
			k.log.Warn("remembered release is spoilt and does not count", "dir", k.state.dir, "file", name, "err", err)
			continue
		}
		found[key.String()] = signed
	}
	return found
}

// learn takes releases of pinned keys up, of each key the newest.
func (k *Keeper) learn(found map[string]release.Signed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, signed := range found {
		if old, ok := k.known[key]; !ok || signed.Release.Compare(old.Release) > 0 {
			k.known[key] = signed
		}
	}
	for _, key := range k.keys { // of two that are equal, that of the key that is named first
		if signed, ok := k.known[key.String()]; ok && signed.Release.Compare(k.newest.Release) > 0 {
			k.newest = signed
		}
	}
}

// announce logs a release that has become the newest one.
func (k *Keeper) announce(r release.Release) {
	k.log.Info("release accepted", "feed", r.Feed, "epoch", r.Epoch, "seq", r.Seq,
		"issued", r.Issued, "expires", r.Expires, "versions", len(r.Entries))
	if ahead := r.Issued.Sub(k.now()); ahead > clockTolerance {
		k.log.Warn("release issued in the future", "issued", r.Issued, "ahead", ahead,
			"hint", "the clock of this machine or of the publisher is wrong")
	}
}

// pinned names the pinned keys in a sentence.
func (k *Keeper) pinned() string {
	var ids []string
	for _, key := range k.keys {
		ids = append(ids, key.ID())
	}
	if len(ids) == 1 {
		return "the key " + ids[0]
	}
	return "one of the keys " + strings.Join(ids, ", ")
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
