package shard_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/shard"
)

// shelf keeps the shards of a cut. The shards numbered by fail go wrong.
type shelf struct {
	files []*file
	fail  struct{ create, write, commit, close int }

	// onCommit is called by every Commit before it does anything.
	onCommit func(number int)
}

func (s *shelf) create(number int) (shard.Writer, error) {
	if number == s.fail.create {
		return nil, errBroken
	}
	s.files = append(s.files, &file{shelf: s, number: number})
	return s.files[len(s.files)-1], nil
}

// tidy fails t if a writer was left open, or a shard kept that is not whole.
func (s *shelf) tidy(t require.TestingT, whole []byte, shardSize int) {
	shards := slices.Collect(slices.Chunk(whole, shardSize))
	require.LessOrEqual(t, len(s.files), len(shards))
	for i, f := range s.files {
		require.Equal(t, i+1, f.number, "shards are created in order, and once")
		require.True(t, f.closed, "shard %d stays open", f.number)
		if f.committed {
			require.True(t, bytes.Equal(shards[i], f.Bytes()), "shard %d was committed with other bytes than its own",
				f.number)
		}
	}
}

type file struct {
	bytes.Buffer

	shelf             *shelf
	number            int
	committed, closed bool
}

func (f *file) Write(p []byte) (int, error) {
	if f.committed || f.closed {
		return 0, errors.New("written to after its end")
	}
	if f.number == f.shelf.fail.write {
		return 0, errBroken
	}
	return f.Buffer.Write(p)
}

func (f *file) Commit() error {
	if f.shelf.onCommit != nil {
		f.shelf.onCommit(f.number)
	}
	if f.committed || f.closed {
		return errors.New("committed after its end")
	}
	if f.number == f.shelf.fail.commit {
		return errBroken
	}
	f.committed = true
	return nil
}

func (f *file) Close() error {
	f.closed = true
	if f.number == f.shelf.fail.close {
		return errBroken
	}
	return nil
}

// noise returns size bytes of which no shard is like another.
func noise(size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(p) // never fails
	return p
}

func cut(ctx context.Context, src io.Reader, plan shard.Plan) (digest shard.Digest, shards []shard.Digest, err error) {
	m, err := shard.Cut(ctx, src, plan)
	return m.Digest, m.Shards, err
}

// checkCut fails t unless a cut of whole does what slicing and hashing it does.
func checkCut(ctx context.Context, t require.TestingT, src io.Reader, whole []byte, shardSize int) {
	var s shelf
	plan := shard.Plan{Size: int64(len(whole)), ShardSize: int64(shardSize), BLAKE3: true, Create: s.create}
	m, err := shard.Cut(ctx, src, plan)
	require.NoError(t, err)
	require.Equal(t, shard.Digest(sha256.Sum256(whole)), m.Digest)
	require.Equal(t, shard.Digest(blake3.Sum256(whole)), m.BLAKE3)
	var want []shard.Digest
	for part := range slices.Chunk(whole, shardSize) {
		want = append(want, sha256.Sum256(part))
	}
	require.Len(t, m.Shards, len(want))
	require.True(t, slices.Equal(want, m.Shards))
	s.tidy(t, whole, shardSize)
	require.Len(t, s.files, len(want))
	for _, f := range s.files {
		require.True(t, f.committed)
	}
}

func TestCutAgreesWithSlicingAndHashing(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "whole")
		shardSize := rapid.OneOf(rapid.IntRange(1, 300), rapid.IntRange(1, len(whole)+2)).Draw(t, "shard size")
		checkCut(ctx, t, bytes.NewReader(whole), whole, shardSize)
	})
}

func TestCutTakesAnySize(t *testing.T) {
	for name, tc := range map[string]struct{ size, shardSize int }{
		"nothing":                              {0, 10},
		"one byte":                             {1, 1},
		"one shard, not full":                  {9, 10},
		"one shard, full":                      {10, 10},
		"a byte more than a shard":             {11, 10},
		"an exact multiple":                    {100, 10},
		"a byte less than a multiple":          {99, 10},
		"a shard size that no file has":        {10, math.MaxInt},
		"shards of one read":                   {1 << 20, 256 << 10},
		"shards a byte longer than a read":     {1 << 20, 256<<10 + 1},
		"shards a byte shorter than a read":    {1 << 20, 256<<10 - 1},
		"one shard of more reads than buffers": {6 << 20, 8 << 20},
		"shards of many reads":                 {9<<20 + 5, 5 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			whole := noise(tc.size)
			checkCut(t.Context(), t, bytes.NewReader(whole), whole, tc.shardSize)
		})
	}
}

func TestCutTakesHoweverMuchAReaderGives(t *testing.T) {
	whole := noise(3000)
	for name, src := range map[string]io.Reader{
		"byte by byte":      iotest.OneByteReader(bytes.NewReader(whole)),
		"by halves":         iotest.HalfReader(bytes.NewReader(whole)),
		"the end with data": iotest.DataErrReader(bytes.NewReader(whole)),
	} {
		t.Run(name, func(t *testing.T) { checkCut(t.Context(), t, src, whole, 700) })
	}
}

func TestCutOfNothingHasNoShards(t *testing.T) {
	none := func(int) (shard.Writer, error) { return nil, assert.AnError }
	digest, shards, err := cut(t.Context(), bytes.NewReader(nil), shard.Plan{ShardSize: 10, Create: none})
	require.NoError(t, err)
	assert.Equal(t, shard.EmptyDigest(), digest)
	assert.Empty(t, shards)
}

func TestCutReportsAFileThatShrinks(t *testing.T) {
	const size = 100
	for name, tc := range map[string]struct{ holds, shardSize int }{
		"by a byte":                      {size - 1, 30},
		"by the last shard":              {90, 30},
		"within a shard":                 {45, 30},
		"to a shard":                     {30, 30},
		"to nothing":                     {0, 30},
		"by a byte, in a shard a byte":   {size - 1, 1},
		"by a byte, in one single shard": {size - 1, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s shelf
				whole := noise(size)
				digest, shards, err := cut(t.Context(), bytes.NewReader(whole[:tc.holds]),
					shard.Plan{Size: size, ShardSize: int64(tc.shardSize), Create: s.create})
				require.ErrorIs(t, err, shard.ErrChanged)
				assert.Zero(t, digest)
				assert.Nil(t, shards)
				s.tidy(t, whole, tc.shardSize)
			})
		})
	}
}

func TestCutReportsAFileThatGrows(t *testing.T) {
	for name, tc := range map[string]struct{ size, holds, shardSize int }{
		"by a byte":                  {100, 101, 30},
		"by a byte, at a shard end":  {90, 91, 30},
		"from nothing":               {0, 1, 30},
		"by more than is read ahead": {1, 1 << 20, 30},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s shelf
				whole := noise(tc.holds)
				digest, shards, err := cut(t.Context(), bytes.NewReader(whole),
					shard.Plan{Size: int64(tc.size), ShardSize: int64(tc.shardSize), Create: s.create})
				require.ErrorIs(t, err, shard.ErrChanged)
				assert.Zero(t, digest)
				assert.Nil(t, shards)
				s.tidy(t, whole[:tc.size], tc.shardSize)
			})
		})
	}
}

func TestCutReturnsTheErrorOfItsReader(t *testing.T) {
	const size, shardSize = 100, 30
	for name, readable := range map[string]int{
		"at once":            0,
		"within a shard":     45,
		"between shards":     60,
		"where it must end":  size,
		"at the last shard":  90,
		"at the second byte": 1,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s shelf
				whole := noise(size)
				src := io.MultiReader(bytes.NewReader(whole[:readable]), iotest.ErrReader(errBroken))
				_, _, err := cut(t.Context(), src, shard.Plan{Size: size, ShardSize: shardSize, Create: s.create})
				require.ErrorIs(t, err, errBroken)
				require.NotErrorIs(t, err, shard.ErrChanged)
				s.tidy(t, whole, shardSize)
			})
		})
	}
}

// In a bubble of synctest, what waits for ever fails the test at once, and so
// does a goroutine that is left.
func TestCutReturnsTheErrorOfAWriterAndClosesAll(t *testing.T) {
	const (
		shardSize = 10
		count     = 1000 // far more than is read ahead
	)
	whole := noise(shardSize * count)
	for name, fail := range map[string]func(s *shelf, number int){
		"create": func(s *shelf, number int) { s.fail.create = number },
		"write":  func(s *shelf, number int) { s.fail.write = number },
		"commit": func(s *shelf, number int) { s.fail.commit = number },
		"close":  func(s *shelf, number int) { s.fail.close = number },
	} {
		for place, number := range map[string]int{"first": 1, "second": 2, "middle": count / 2, "last": count} {
			t.Run(name+" of the "+place, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var s shelf
					fail(&s, number)
					digest, shards, err := cut(t.Context(), bytes.NewReader(whole),
						shard.Plan{Size: int64(len(whole)), ShardSize: shardSize, Create: s.create})
					require.ErrorIs(t, err, errBroken)
					assert.Zero(t, digest)
					assert.Nil(t, shards)
					s.tidy(t, whole, shardSize)
				})
			})
		}
	}
}

func TestCutReturnsTheErrorOfAWriteInTheMiddleOfAShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 20 << 20 // of more reads than there are buffers
		s := &shelf{}
		create := func(number int) (shard.Writer, error) {
			w, err := s.create(number)
			return &shortOfSpace{Writer: w, left: 1 << 20}, err
		}
		_, _, err := cut(t.Context(), io.LimitReader(endless('x'), size),
			shard.Plan{Size: size, ShardSize: size, Create: create})
		require.ErrorIs(t, err, errBroken)
		require.Len(t, s.files, 1)
		assert.True(t, s.files[0].closed)
		assert.False(t, s.files[0].committed)
	})
}

// shortOfSpace takes so many bytes and no more.
type shortOfSpace struct {
	shard.Writer

	left int
}

func (w *shortOfSpace) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return w.Writer.Write(p)
}

// cancelling ends a context at one of its reads, and says so if reading goes on
// for long after it.
type cancelling struct {
	cancel      context.CancelCauseFunc
	reads, last int
}

func (r *cancelling) Read(p []byte) (int, error) {
	if r.reads++; r.reads == r.last {
		r.cancel(errBroken)
	}
	if r.reads > r.last+100 {
		return 0, errors.New("read on after the end of the context")
	}
	return endless(0).Read(p)
}

func TestCutEndsWithItsContext(t *testing.T) {
	for name, tc := range map[string]struct {
		shardSize int64
		last      int
	}{
		"at the first read":     {50_000_000, 1},
		"in the middle":         {50_000_000, 50},
		"between little shards": {10, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var s shelf
				src := &cancelling{cancel: cancel, last: tc.last}
				digest, shards, err := cut(ctx, src,
					shard.Plan{Size: 60_000 * tc.shardSize, ShardSize: tc.shardSize, Create: s.create})
				require.ErrorIs(t, err, errBroken, "the cause, not merely that it was cancelled")
				assert.Zero(t, digest)
				assert.Nil(t, shards)
				for _, f := range s.files {
					assert.True(t, f.closed)
				}
			})
		})
	}
}

func TestCutDoesNotBeginWhenItsContextIsOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var s shelf
	_, _, err := cut(ctx, endless(0), shard.Plan{Size: 10_000, ShardSize: 1, Create: s.create})
	require.ErrorIs(t, err, context.Canceled)
	assert.Less(t, len(s.files), 100)
}

func TestCutCommitsAShardWhileTheNextIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := make(chan struct{})
		s := &shelf{onCommit: func(number int) {
			if number == 1 {
				<-second
			}
		}}
		create := func(number int) (shard.Writer, error) {
			if number == 2 {
				close(second)
			}
			return s.create(number)
		}
		_, shards, err := cut(t.Context(), bytes.NewReader(noise(20)),
			shard.Plan{Size: 20, ShardSize: 10, Create: create})
		require.NoError(t, err)
		assert.Len(t, shards, 2)
	})
}

func TestCutWaitsForASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 1000
		whole := noise(count)
		synced := make(chan struct{})
		s := &shelf{onCommit: func(int) { <-synced }}
		ended := make(chan error)
		go func() {
			_, _, err := cut(t.Context(), bytes.NewReader(whole),
				shard.Plan{Size: count, ShardSize: 1, Create: s.create})
			ended <- err
		}()
		synctest.Wait()
		assert.Less(t, len(s.files), 100, "memory would fill with unwritten bytes")
		close(synced)
		require.NoError(t, <-ended)
		s.tidy(t, whole, 1)
		assert.Len(t, s.files, count)
	})
}

func TestCutHasSmallShardsBeginToBeWrittenBeforeTheyAreSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		synced := make(chan struct{})
		s := &shelf{onCommit: func(int) { <-synced }}
		var flushed sync.Map
		create := func(number int) (shard.Writer, error) {
			w, err := s.create(number)
			return flushing{w, func() { flushed.Store(number, true) }}, err
		}
		has := func(number int, _ shard.Digest) bool { return number == 2 }
		ended := make(chan error, 1)
		go func() {
			_, _, err := cut(t.Context(), bytes.NewReader(noise(30)),
				shard.Plan{Size: 30, ShardSize: 1, Create: create, Has: has})
			ended <- err
		}()
		synctest.Wait()
		for number := 1; number <= 30; number++ {
			_, ok := flushed.Load(number)
			assert.Equal(t, number != 2, ok, "shard %d of 30, of which 4 are synced at a time, and the second is there",
				number)
		}
		close(synced)
		require.NoError(t, <-ended)
	})
}

// flushing is a shard that notes when it is to begin to be written.
type flushing struct {
	shard.Writer

	flush func()
}

func (f flushing) Flush() error {
	f.flush()
	return nil
}

func TestCutReturnsOnlyWhenAllIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		synced := make(chan struct{})
		s := &shelf{onCommit: func(int) { <-synced }}
		ended := make(chan error, 1)
		go func() {
			_, _, err := cut(t.Context(), bytes.NewReader(noise(3)),
				shard.Plan{Size: 3, ShardSize: 1, Create: s.create})
			ended <- err
		}()
		synctest.Wait()
		assert.Empty(t, ended)
		close(synced)
		require.NoError(t, <-ended)
	})
}

func TestCutRefusesSizesThatCannotBeCut(t *testing.T) {
	for name, tc := range map[string]struct{ size, shardSize int64 }{
		"shard size 0":        {10, 0},
		"negative shard size": {10, -1},
		"smallest shard size": {10, math.MinInt64},
		"a shard too many":    {shard.MaxShards + 1, 1},
		"the largest file":    {math.MaxInt64, 1},
		"a negative size":     {-2, 10},
		"the smallest size":   {math.MinInt64, 10},
	} {
		t.Run(name, func(t *testing.T) {
			var s shelf
			_, _, err := cut(t.Context(), bytes.NewReader(nil),
				shard.Plan{Size: tc.size, ShardSize: tc.shardSize, Create: s.create})
			require.Error(t, err)
			assert.Empty(t, s.files)
			assert.Error(t, shard.CheckSize(tc.size, tc.shardSize))
		})
	}
}

func TestCutOfAnUnknownSizeIsThatOfTheSize(t *testing.T) {
	for _, size := range []int64{0, 1, 9, 10, 11, 20, 256 << 10, 256<<10 + 1, 512 << 10} {
		for _, shardSize := range []int64{10, 256 << 10, 300_000, 1 << 20} {
			if size > 1<<17 && shardSize == 10 {
				continue
			}
			text := bytes.Repeat([]byte("x"), int(size))
			kept := map[int]*bytes.Buffer{}
			cut := func(announced int64) shard.Manifest {
				clear(kept)
				m, err := shard.Cut(t.Context(), bytes.NewReader(text), shard.Plan{
					Size: announced, ShardSize: shardSize,
					Create: func(number int) (shard.Writer, error) {
						kept[number] = new(bytes.Buffer)
						return buffered{kept[number]}, nil
					},
				})
				require.NoError(t, err)
				return m
			}
			want := cut(size)
			got := cut(shard.UnknownSize)
			assert.Equal(t, want, got, "%d in shards of %d", size, shardSize)
			assert.Len(t, kept, len(want.Shards))
			for number, of := range kept {
				assert.EqualValues(t, want.Shard(number).Size, of.Len())
			}
		}
	}
}

// buffered is a shard that is kept in a buffer.
type buffered struct{ *bytes.Buffer }

func (buffered) Close() error  { return nil }
func (buffered) Commit() error { return nil }
