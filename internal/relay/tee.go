package relay

import (
	"io"

	"github.com/shardcast/shardcast/internal/disk"
)

// A Place is where the bytes of one shard go. Offsets count from its start.
type Place interface {
	io.ReaderAt
	io.WriterAt
	Written() ([]disk.Range, error)
	Commit() error
	Close() error
}

// Tee returns a place for shard number that reports to its readers which bytes have been
// written to place, and that all of them are right when they are committed: before the
// place syncs them, which readers need not wait for. Ranges that were written before are
// not reported until then.
func (v *Version) Tee(number int, place Place) Place {
	s := v.Shard(number)
	s.Begin()
	return tee{Place: place, shard: s}
}

// tee is a place that overrides what it reports.
type tee struct {
	Place

	shard *Shard
}

// WriteAt writes to the place, and reports that.
func (t tee) WriteAt(data []byte, offset int64) (int, error) {
	n, err := t.Place.WriteAt(data, offset)
	if err == nil {
		t.shard.Wrote(disk.Range{From: offset, To: offset + int64(n)})
	}
	return n, err
}

// Commit reports that the shard is right, and commits it.
func (t tee) Commit() error {
	t.shard.Verify()
	return t.Place.Commit()
}

// Asked reports whether any reader has waited for shard number.
func (v *Version) Asked(number int) bool { return v.Shard(number).Asked() }

// From says whether the server that sends shard number from now on holds all of it, see
// [Shard.From].
func (v *Version) From(number int, direct bool) { v.Shard(number).From(direct) }

// Forget says that the bytes of shard number are wrong, and come again.
func (v *Version) Forget(number int) { v.Shard(number).Forget() }
