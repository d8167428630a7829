package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/relay"
)

// patience is that of readers; where it counts, the time is that of synctest.
const patience = 30 * time.Second

func whole(s *relay.Shard) disk.Range { return disk.Range{To: s.Size()} }

// one returns the only shard of a version, of size bytes, that a fetch brings.
func one(size int64) *relay.Shard {
	_, v := begin(1, size)
	s := v.Shard(1)
	s.Begin()
	return s
}

// answer is a result of Await.
type answer struct {
	n   int64
	err error
}

// await makes r wait at offset in a goroutine of its own.
func await(ctx context.Context, r *relay.Reader, offset int64) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		n, err := r.Await(ctx, offset, patience)
		got <- answer{n, err}
	}()
	return got
}

// now returns the result of Await so far, in a bubble where no time passes.
func now(got <-chan answer) answer {
	synctest.Wait()
	select {
	case a := <-got:
		return a
	default:
		return answer{err: errors.New("it waits")}
	}
}

// there is the result of Await without waiting: 0 if it would wait.
func there(r *relay.Reader, offset int64) (int64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n, err := r.Await(ctx, offset, patience)
	if errors.Is(err, context.Canceled) {
		return 0, nil
	}
	return n, err
}

// A model keeps a bit for each byte. A shard must agree with it.
func TestReadersGetTheBytesOfAModelOfBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int64{1, relay.HeldBack, relay.HeldBack + 1, relay.HeldBack + 12}).Draw(t, "size")
		s := one(size)
		end := max(size-relay.HeldBack, 0) // of the bytes that readers may have before it is verified
		come, verified := make([]bool, end), false
		old, reader := s.Reader(), s.Reader()
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				from := rapid.Int64Range(0, min(end, size-1)).Draw(t, "from")
				to := rapid.OneOf(rapid.Int64Range(from, max(from, end)), rapid.Int64Range(from, size)).Draw(t, "to")
				s.Wrote(disk.Range{From: from, To: to})
				for i := from; i < min(to, end); i++ {
					come[i] = true
				}
			},
			"verify": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "one in five") > 0 {
					t.Skip("so that other steps come before")
				}
				s.Wrote(disk.Range{To: size})
				s.Verify()
				verified = true
			},
			"forget": func(*rapid.T) {
				s.Forget()
				clear(come)
				verified = false
				old, reader = reader, s.Reader()
				_, err := there(old, 0)
				require.ErrorIs(t, err, relay.ErrBroken)
			},
			"": func(t *rapid.T) {
				for offset := range min(size, end+5) {
					want := int64(0)
					for want < end-offset && come[offset+want] {
						want++
					}
					if verified {
						want = size - offset
					}
					n, err := there(reader, offset)
					require.NoError(t, err)
					require.Equal(t, want, n, "at %d", offset)
				}
			},
		})
	})
}

func TestPiecesBecomeOneInWhateverOrderTheyCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := one(2 * relay.HeldBack)
		for _, i := range rapid.Permutation([]int64{0, 1, 2, 3, 4}).Draw(t, "order") {
			s.Wrote(disk.Range{From: 10 * i, To: 10 * (i + 1)})
		}
		for offset := range int64(50) {
			n, err := there(s.Reader(), offset)
			require.NoError(t, err)
			require.Equal(t, 50-offset, n)
		}
	})
}

func TestAwaitReturnsHeldBytesAtOnce(t *testing.T) {
	s := one(10 * relay.HeldBack)
	s.Wrote(disk.Range{From: 100, To: 200})
	n, err := s.Reader().Await(t.Context(), 150, patience)
	require.NoError(t, err)
	assert.EqualValues(t, 50, n)
}

func TestAwaitIsWokenByItsOwnBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := one(10 * relay.HeldBack)
		first, second := await(t.Context(), s.Reader(), 100), await(t.Context(), s.Reader(), 250)
		synctest.Wait()
		s.Wrote(disk.Range{From: 0, To: 100})
		s.Wrote(disk.Range{From: 200, To: 250})
		synctest.Wait()
		assert.Empty(t, first, "other bytes have come")
		assert.Empty(t, second)
		s.Wrote(disk.Range{From: 100, To: 101})
		assert.Equal(t, answer{n: 1}, now(first))
		assert.Empty(t, second)
		s.Wrote(disk.Range{From: 240, To: 300})
		assert.Equal(t, answer{n: 50}, now(second))
	})
}

func TestTheEndIsHeldBackUntilItIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := one(10*relay.HeldBack + 3)
		s.Wrote(whole(s))
		r := s.Reader()
		n, err := r.Await(t.Context(), 1, patience)
		require.NoError(t, err)
		assert.EqualValues(t, 9*relay.HeldBack+3-1, n)
		assert.Zero(t, r.Ready(s.Size()-1))
		end := await(t.Context(), r, 9*relay.HeldBack+3)
		last := await(t.Context(), s.Reader(), s.Size()-1)
		synctest.Wait()
		assert.Empty(t, end)
		assert.Empty(t, last)
		s.Verify()
		assert.Equal(t, answer{n: relay.HeldBack}, now(end))
		assert.Equal(t, answer{n: 1}, now(last))
	})
}

func TestAShardThatIsAllHeldBackComesAtOnce(t *testing.T) {
	s := one(relay.HeldBack)
	s.Wrote(whole(s))
	r := s.Reader()
	n, err := there(r, 0)
	require.NoError(t, err)
	assert.Zero(t, n)
	s.Verify()
	n, err = there(r, 0)
	require.NoError(t, err)
	assert.EqualValues(t, relay.HeldBack, n)
}

func TestForgetBreaksOffReadersThatHaveBegunAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := one(10 * relay.HeldBack)
		s.Wrote(disk.Range{To: 100})
		reading, waiting := s.Reader(), await(t.Context(), s.Reader(), 100)
		synctest.Wait()
		s.Forget()
		assert.Equal(t, answer{err: relay.ErrBroken}, now(waiting))
		_, err := there(reading, 0)
		require.ErrorIs(t, err, relay.ErrBroken)
		fresh := s.Reader()
		n, err := there(fresh, 0)
		require.NoError(t, err)
		assert.Zero(t, n, "the bytes so far are forgotten")
		s.Wrote(whole(s))
		s.Verify()
		n, err = there(fresh, 0)
		require.NoError(t, err)
		assert.Equal(t, s.Size(), n)
		_, err = there(reading, 100)
		require.ErrorIs(t, err, relay.ErrBroken, "it may have bytes of both")
	})
}

func TestAVerifiedShardThatIsForgottenIsNotThere(t *testing.T) {
	s := one(10)
	s.Verify()
	s.Forget()
	n, err := there(s.Reader(), 0)
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestAwaitEndsAfterPatienceWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := <-await(t.Context(), one(10).Reader(), 0)
		assert.Equal(t, answer{err: relay.ErrBroken}, got)
		assert.Equal(t, patience, time.Since(start))
	})
}

func TestOtherBytesOfTheShardDoNotRenewPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := one(10 * relay.HeldBack)
		end := await(t.Context(), s.Reader(), s.Size()-1)
		for i := range int64(10) {
			time.Sleep(patience / 20)
			s.Wrote(disk.Range{From: i, To: i + 1})
			synctest.Wait()
			assert.Empty(t, end)
		}
		assert.Equal(t, answer{err: relay.ErrBroken}, <-end)
		assert.Equal(t, patience, time.Since(start))
	})
}

func TestAwaitReturnsTheCauseOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("the reader is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := await(ctx, one(10).Reader(), 0)
		synctest.Wait()
		assert.Empty(t, got)
		cancel(gone)
		assert.Equal(t, answer{err: gone}, now(got))
	})
}

func TestReadAtReportsThatTheShardWasMoved(t *testing.T) {
	s := one(10)
	s.Verify()
	r := s.Reader()
	_, err := r.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, r.Close())
}

func TestReaderOpensItsFileOnceAndClosesIt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "shard_001.bin")
	require.NoError(t, os.WriteFile(name, []byte("0123456789"), 0o644))
	var opened []*os.File
	v := relay.NewBoard().Begin(entry(1, 1), manifest(3, 10), 1, func(number int) (relay.File, error) {
		assert.Equal(t, 2, number)
		f, err := os.Open(name)
		opened = append(opened, f)
		return f, err
	})
	r := v.Shard(2).Reader()
	assert.Empty(t, opened, "no byte may have been written yet")
	text := make([]byte, 3)
	for _, offset := range []int64{0, 7, 3} {
		_, err := r.ReadAt(text, offset)
		require.NoError(t, err)
		assert.Equal(t, "0123456789"[offset:offset+3], string(text))
	}
	require.NoError(t, r.Close())
	require.Len(t, opened, 1)
	require.ErrorIs(t, opened[0].Close(), os.ErrClosed)
}

// reading reads all of the shard, by Await and ReadAt.
func reading(ctx context.Context, r *relay.Reader, size int64) ([]byte, error) {
	text := make([]byte, 0, size)
	for int64(len(text)) < size {
		n, err := r.Await(ctx, int64(len(text)), patience)
		if err != nil {
			return nil, err
		}
		part := text[len(text):min(int64(len(text))+n, size)]
		if _, err := r.ReadAt(part, int64(len(text))); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		text = text[:len(text)+len(part)]
	}
	return text, nil
}

func TestReadersGetExactlyTheBytesThatAWriterBrings(t *testing.T) {
	const readers, size, piece = 64, relay.HeldBack + 300_000, 4096
	random := rand.New(rand.NewPCG(1, 1))
	text := make([]byte, size)
	_, err := rand.NewChaCha8([32]byte{1}).Read(text)
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "shard_001.bin")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	v := relay.NewBoard().Begin(entry(1, 1), manifest(1, size), 1,
		func(int) (relay.File, error) { return os.Open(name) })
	s := v.Shard(1)
	var group errgroup.Group
	for range readers {
		group.Go(func() error {
			r := v.Shard(1).Reader()
			got, err := reading(t.Context(), r, s.Size())
			if err == nil && !bytes.Equal(got, text) {
				err = errors.New("a reader has other bytes")
			}
			return errors.Join(err, r.Close())
		})
	}
	assert.Equal(t, 1, <-v.Wanted(), "the first reader asks for it")
	s.Begin()
	for _, i := range random.Perm((size + piece - 1) / piece) {
		from, to := i*piece, min((i+1)*piece, size)
		_, err := f.WriteAt(text[from:to], int64(from))
		require.NoError(t, err)
		s.Wrote(disk.Range{From: int64(from), To: int64(to)})
	}
	s.Verify()
	require.NoError(t, group.Wait())
	assert.Empty(t, wanted(v))
}
