package relay_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// entry is version v with a digest that begins with first.
func entry(v shard.Version, first byte) distfile.Entry {
	return distfile.Entry{Version: v, Digest: shard.Digest{first}}
}

// manifest is one of so many shards of shardSize bytes, with digests that no test here
// reads.
func manifest(shards int, shardSize int64) shard.Manifest {
	m := shard.Manifest{Size: int64(shards) * shardSize, ShardSize: shardSize, Digest: shard.Digest{1}}
	for i := range shards {
		m.Shards = append(m.Shards, shard.Digest{byte(i + 1)})
	}
	return m
}

// nothing is for tests that read no bytes.
func nothing(int) (relay.File, error) { return nil, fs.ErrNotExist }

// begin returns a new board with v1 arriving in so many shards.
func begin(shards int, shardSize int64) (*relay.Board, *relay.Version) {
	b := relay.NewBoard()
	return b, b.Begin(entry(1, 1), manifest(shards, shardSize), 2, nothing)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wanted takes the numbers of the shards that are wanted now.
func wanted(v *relay.Version) (numbers []int) {
	for {
		select {
		case number := <-v.Wanted():
			numbers = append(numbers, number)
		default:
			return numbers
		}
	}
}

func TestListedIsAscendingAndWithoutCounts(t *testing.T) {
	b := relay.NewBoard()
	listed, _ := b.Listed()
	assert.Empty(t, listed)
	for _, v := range []shard.Version{3, 10, 1, 2} {
		e := entry(v, byte(v))
		e.Count = 7
		b.List(e)
	}
	listed, _ = b.Listed()
	assert.Equal(t, []distfile.Entry{entry(1, 1), entry(2, 2), entry(3, 3), entry(10, 10)}, listed)
	b.Unlist(2)
	listed, _ = b.Listed()
	assert.Equal(t, []distfile.Entry{entry(1, 1), entry(3, 3), entry(10, 10)}, listed)
}

func TestListedReportsEachChangeAndNothingElse(t *testing.T) {
	counted := entry(1, 1)
	counted.Count = 7
	for name, tc := range map[string]struct {
		step     func(b *relay.Board)
		reported bool
	}{
		"another version is listed":        {func(b *relay.Board) { b.List(entry(2, 1)) }, true},
		"the digest is another":            {func(b *relay.Board) { b.List(entry(1, 2)) }, true},
		"the same is listed again":         {func(b *relay.Board) { b.List(entry(1, 1)) }, false},
		"the same is listed with a count":  {func(b *relay.Board) { b.List(counted) }, false},
		"it is taken off":                  {func(b *relay.Board) { b.Unlist(1) }, true},
		"an unlisted version is taken off": {func(b *relay.Board) { b.Unlist(2) }, false},
		"a fetch of it begins": {func(b *relay.Board) {
			b.Begin(entry(1, 1), manifest(1, 10), 2,
				nothing)
		}, false},
		"a fetch of it ends": {func(b *relay.Board) {
			b.Begin(entry(1, 1), manifest(1, 10), 2,
				nothing).End()
		}, false},
		"the digest changes and returns": {func(b *relay.Board) { b.List(entry(1, 2)); b.List(entry(1, 1)) }, true},
		"no step is taken":               {func(*relay.Board) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := relay.NewBoard()
			b.List(entry(1, 1))
			_, changed := b.Listed()
			_, too := b.Listed()
			tc.step(b)
			assert.Equal(t, tc.reported, isClosed(changed))
			assert.Equal(t, tc.reported, isClosed(too), "all that look learn of it")
			_, changed = b.Listed()
			assert.False(t, isClosed(changed), "a later look waits for the next change")
			b.List(entry(9, 9))
			assert.True(t, isClosed(changed))
		})
	}
}

func TestBeginPutsAVersionOnTheBoardAndEndTakesItOff(t *testing.T) {
	b, v := begin(2, 10)
	assert.Same(t, v, b.Version(1))
	assert.Nil(t, b.Version(2))
	assert.Equal(t, entry(1, 1), v.Entry)
	assert.Equal(t, manifest(2, 10), v.Manifest)
	assert.Equal(t, 2, v.Tier)
	other := b.Begin(entry(2, 2), manifest(1, 10), 3, nothing)
	v.End()
	assert.Nil(t, b.Version(1))
	assert.Same(t, other, b.Version(2), "the other version stays")
	v.End() // a second time does nothing
	assert.Same(t, other, b.Version(2))
}

func TestBeginEndsTheArrivingVersionOfTheSameNumber(t *testing.T) {
	b, former := begin(1, 10)
	r := former.Shard(1).Reader()
	next := b.Begin(entry(1, 9), manifest(3, 10), 2, nothing)
	assert.Same(t, next, b.Version(1))
	_, err := there(r, 0)
	require.ErrorIs(t, err, relay.ErrBroken)
	former.End() // late, by its fetch
	assert.Same(t, next, b.Version(1), "the end of the former leaves the next alone")
	next.Shard(1).Verify()
	n, err := there(next.Shard(1).Reader(), 0)
	require.NoError(t, err)
	assert.EqualValues(t, 10, n)
}

func TestAShardIsTheSameForAllCallersAndHasItsSize(t *testing.T) {
	m := manifest(3, 10)
	m.Size -= 4
	v := relay.NewBoard().Begin(entry(1, 1), m, 1, nothing)
	second := v.Shard(2)
	assert.Same(t, second, v.Shard(2))
	assert.NotSame(t, v.Shard(1), second)
	assert.EqualValues(t, 10, v.Shard(1).Size())
	assert.EqualValues(t, 6, v.Shard(3).Size(), "the last is shorter")
}

func TestEndBreaksReadersOfUnverifiedShards(t *testing.T) {
	for name, tc := range map[string]struct {
		verified bool
		late     bool // the reader comes after the end
		err      error
	}{
		"begun":                     {err: relay.ErrBroken},
		"begun, opened afterwards":  {late: true, err: relay.ErrBroken},
		"verified":                  {verified: true},
		"verified, opened after it": {verified: true, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, v := begin(2, 10*relay.HeldBack)
			s := v.Shard(1)
			s.Begin()
			s.Wrote(whole(s))
			r := s.Reader()
			if tc.verified {
				s.Verify()
			}
			v.End()
			if tc.late {
				r = v.Shard(1).Reader()
			}
			n, err := there(r, 5)
			require.ErrorIs(t, err, tc.err)
			if err == nil {
				assert.Equal(t, s.Size()-5, n)
			}
			_, err = there(v.Shard(2).Reader(), 0)
			require.ErrorIs(t, err, relay.ErrBroken, "no reader had asked for this one before")
			assert.Empty(t, wanted(v), "no fetch brings it any more")
		})
	}
}

func TestEndWakesWaitingReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, v := begin(1, 10)
		got := await(t.Context(), v.Shard(1).Reader(), 0)
		synctest.Wait()
		assert.Empty(t, got)
		v.End()
		synctest.Wait()
		assert.Equal(t, answer{err: relay.ErrBroken}, now(got))
	})
}

func TestWantedYieldsEachShardOnceUnlessItHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, v := begin(4, 10*relay.HeldBack)
		v.Shard(1).Begin()
		v.Shard(2).Verify()                 // of an earlier run
		v.Shard(3).Wrote(whole(v.Shard(3))) // the same, but for its end
		for number := range 4 {
			for range 3 {
				await(t.Context(), v.Shard(number+1).Reader(), 0)
			}
		}
		synctest.Wait()
		assert.Equal(t, []int{4}, wanted(v), "only one of them has a reader wait for a shard without a fetch")
		for range 3 {
			await(t.Context(), v.Shard(3).Reader(), v.Shard(3).Size()-relay.HeldBack)
			await(t.Context(), v.Shard(4).Reader(), 7)
		}
		synctest.Wait()
		assert.Equal(t, []int{3}, wanted(v), "readers wait for the end of 3 now, and 4 was taken before")
		v.Shard(4).Begin()
		v.Shard(4).Forget()
		await(t.Context(), v.Shard(4).Reader(), 0)
		synctest.Wait()
		assert.Empty(t, wanted(v), "the fetch that brought it wrong brings it again")
		v.End()
	})
}

func TestNoReaderWaitsForRoomAmongTheWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const shards = 100
		_, v := begin(shards, 10)
		var want []int
		for number := range shards {
			await(t.Context(), v.Shard(number+1).Reader(), 0)
			synctest.Wait()
			want = append(want, number+1)
			assert.Len(t, v.Wanted(), number+1)
		}
		assert.Equal(t, want, wanted(v))
		v.End()
	})
}

// The race detector makes this fail: each goroutine takes one kind of step, so that no lock
// of another kind puts them in order.
func TestManyGoroutinesMayUseABoardAtOnce(t *testing.T) {
	b, v := begin(50, 10)
	var group errgroup.Group
	for _, step := range []func(i int){
		func(i int) { b.List(entry(shard.Version(i%3+1), byte(i))) },
		func(i int) { b.Unlist(shard.Version(i%3 + 1)) },
		func(int) { b.Listed() },
		func(int) { b.Begin(entry(2, 1), manifest(1, 10), 1, nothing) },
		func(int) { b.Version(2) },
		func(i int) { v.Shard(i%50 + 1) },
		func(int) { v.Shard(1).Reader() },
		func(int) { v.Shard(1).Forget() },
		func(i int) { _, _ = there(v.Shard(i%50+1).Reader(), 0) },
	} {
		for range 2 {
			group.Go(func() error {
				for i := range 100 {
					step(i)
				}
				return nil
			})
		}
	}
	require.NoError(t, group.Wait())
	assert.Same(t, v, b.Version(1))
}

func TestOpenFailsOnceTheVersionHasEnded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "shard")
	require.NoError(t, os.WriteFile(name, []byte("text"), 0o600))
	v := relay.NewBoard().Begin(entry(1, 1), manifest(1, 4), 1, func(int) (relay.File, error) { return os.Open(name) })
	f, err := v.Open(1)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	v.End() // the name may now belong to another file
	_, err = v.Open(1)
	assert.ErrorIs(t, err, relay.ErrBroken)
}

func TestCountIsOfArrivingVersions(t *testing.T) {
	b, v := begin(3, 10)
	b.List(entry(1, 1))
	b.List(entry(7, 7)) // without a fetch
	v.Shard(2).Begin()
	v.Shard(3).Verify()
	versions, missing := b.Count()
	assert.Equal(t, 2, versions)
	assert.Equal(t, 2, missing)
	v.End()
	b.Unlist(1)
	b.Unlist(7)
	versions, missing = b.Count()
	assert.Zero(t, versions)
	assert.Zero(t, missing)
}

func TestExtentsAreInTheOrderOfShards(t *testing.T) {
	b, v := begin(5, 10)
	v.Shard(2).Begin()
	v.Shard(3).Begin()
	v.Shard(3).Wrote(disk.Range{From: 0, To: 3})
	v.Shard(3).Wrote(disk.Range{From: 8, To: 10})
	v.Shard(4).Begin()
	v.Shard(4).Wrote(disk.Range{From: 0, To: 9})
	v.Shard(4).Forget()
	v.Shard(5).Verify()
	assert.Equal(t, []relay.Extent{
		{}, {Begun: true}, {Begun: true, Bytes: 5}, {Begun: true}, {Begun: true, Verified: true, Bytes: 10},
	}, slices.Collect(v.Extents()))
	for range v.Extents() {
		break
	}
	b.Begin(entry(12, 1), manifest(1, 10), 1, nothing)
	b.Begin(entry(2, 1), manifest(1, 10), 1, nothing)
	var versions []shard.Version
	for _, v := range b.Arriving() {
		versions = append(versions, v.Entry.Version)
	}
	assert.Equal(t, []shard.Version{1, 2, 12}, versions)
}

func TestAVersionLacksDigestsWhereNoUpstreamHasAManifest(t *testing.T) {
	b, v := begin(2, 10)
	assert.True(t, v.HasDigests())
	m := v.Manifest
	m.Shards = make([]shard.Digest, len(m.Shards))
	v = b.Begin(entry(2, 1), m, 1, nothing)
	assert.False(t, v.HasDigests())
	_, err := v.Text()
	assert.ErrorIs(t, err, shard.ErrManifest)
}

// Whatever moves to and fro during a look, it was on the board at some time of it.
func TestALookSeesAllThatWasOnTheBoardMeanwhile(t *testing.T) {
	b := relay.NewBoard()
	entry := func(v shard.Version, digest byte) distfile.Entry {
		return distfile.Entry{Version: v, Digest: shard.Digest{digest}}
	}
	b.List(entry(1, 1))
	b.List(entry(2, 1))
	b.List(entry(3, 1))
	seen := b.Look(func() {
		b.Unlist(1)
		b.List(entry(2, 2))
		b.List(entry(4, 1))
		b.Unlist(4)
	})
	assert.Equal(t, []distfile.Entry{entry(1, 1), entry(2, 2), entry(3, 1), entry(4, 1)}, seen)
	now, _ := b.Listed()
	assert.Equal(t, []distfile.Entry{entry(2, 2), entry(3, 1)}, now)
	assert.Equal(t, now, b.Look(func() {}))
}
