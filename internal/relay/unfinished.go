package relay

import (
	"os"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// An unfinished version is one whose file is still being cut, here or somewhere
// above: its digest, and those of shards that are not cut yet, are not known. It is
// on the board and not in its list. Its Entry has the number and, for the digest, the
// ID of the cut, which no file has.

// BeginUnfinished says that somebody begins to bring the version that o tells of,
// as [Board.Begin] does of one whose digests are known.
func (b *Board) BeginUnfinished(o shard.Outline, tier int, open func(number int) (*os.File, error)) *Version {
	v := newVersion(distfile.Entry{Version: o.Version, Digest: o.ID}, o.Manifest(), tier, open)
	v.unfinished = true
	v.digests = make([]shard.Digest, len(v.Manifest.Shards))
	v.told = make(chan struct{})
	b.begin(v)
	return v
}

// Unfinished returns the newest version that is unfinished, or nil, and a channel
// that is closed when there is another one, or one less.
func (b *Board) Unfinished() (*Version, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var newest *Version
	for _, v := range b.arriving {
		if v.isUnfinished() && (newest == nil || v.Entry.Version > newest.Entry.Version) {
			newest = v
		}
	}
	return newest, b.growing
}

// wakeUnfinished tells those who wait for an unfinished version.
func (b *Board) wakeUnfinished() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.growing)
	b.growing = make(chan struct{})
}

// Outline returns what was known when the version was begun.
func (v *Version) Outline() shard.Outline {
	m := v.Manifest
	return shard.Outline{
		Version: v.Entry.Version, ID: v.Entry.Digest, Name: m.Name, Date: m.Date, Size: m.Size, ShardSize: m.ShardSize,
	}
}

// Digest returns that of shard number, from 1 to the number of shards, or zero while
// it is not known.
func (v *Version) Digest(number int) shard.Digest {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.digests == nil {
		return v.Manifest.Shards[number-1]
	}
	return v.digests[number-1]
}

// FileDigest returns that of the whole file, or zero while it is not known.
func (v *Version) FileDigest() shard.Digest {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.digests == nil {
		return v.Manifest.Digest
	}
	return v.digest
}

// Whole returns the manifest with all its digests, and false while one of them is
// not known.
func (v *Version) Whole() (shard.Manifest, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.Manifest
	if v.digests != nil {
		m.Digest, m.Shards = v.digest, slices.Clone(v.digests)
	}
	return m, m.Digest != shard.Digest{} && !slices.Contains(m.Shards, shard.Digest{})
}

// Know says that shard number of an unfinished version has the digest d. What is
// known already stays as it is. Those who are to read the shard here as soon as they
// learn of it can do so only if it has been verified before, see [Shard.Verify].
func (v *Version) Know(number int, d shard.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.digests[number-1] != (shard.Digest{}) {
		return
	}
	v.digests[number-1] = d
	v.known = append(v.known, shard.Known{Shard: number, Digest: d})
	v.tell()
}

// Finish says that the whole file has the digest d, and is on offer under it where
// the version comes from. All shards are known then, and the version is unfinished no
// more; it goes on arriving until [Version.End].
func (v *Version) Finish(d shard.Digest) {
	v.mu.Lock()
	v.digest = d
	v.unfinished = false
	v.tell()
	v.mu.Unlock()
	v.board.wakeUnfinished()
}

// Growth is what has become known of a version that is, or was, unfinished.
type Growth struct {
	// Shards are the digests that the caller does not have yet, in the order in which
	// they became known. They are not to be changed.
	Shards []shard.Known

	// Digest is the whole file's, or zero while it is not known. Nothing more becomes
	// known then.
	Digest shard.Digest

	// Ended says that nothing more comes.
	Ended bool

	// Changed is closed when there is more to say.
	Changed <-chan struct{}
}

// Growth returns what has become known, but for the first had of the shards.
func (v *Version) Growth(had int) Growth {
	v.mu.Lock()
	defer v.mu.Unlock()
	return Growth{
		Shards: slices.Clip(v.known[had:]), // more is appended, and nothing is changed
		Digest: v.digest, Ended: v.ended, Changed: v.told,
	}
}

func (v *Version) isUnfinished() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.unfinished
}

// tell wakes those who follow an unfinished version. The caller holds mu.
func (v *Version) tell() {
	if v.told != nil {
		close(v.told)
		v.told = make(chan struct{})
	}
}
