package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/verify"
)

// noneEarly says that no reader waits for a shard.
func noneEarly(int) bool { return false }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is where a shard lies, in memory.
type place struct {
	data []byte
	err  error // of reads, or nil
}

func (p *place) ReadAt(buf []byte, offset int64) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	return bytes.NewReader(p.data).ReadAt(buf, offset)
}

func (p *place) Close() error { return nil }

// file is a version that arrives at a verifier.
type file struct {
	*verify.Verifier

	data     []byte
	manifest shard.Manifest
	places   []*place
	checks   []*verify.Check
	opened   int
}

// newFile returns a file of so many shards of 100 bytes, of which the last is shorter, and
// its verifier. The change of the options may be nil.
func newFile(shards int, change func(f *file, opts *verify.Options)) *file {
	const size = 100
	f := &file{data: make([]byte, max(0, shards*size-30))}
	_, _ = rand.NewChaCha8([32]byte{byte(shards)}).Read(f.data)
	f.manifest = shard.Manifest{Size: int64(len(f.data)), ShardSize: size, Digest: sha256.Sum256(f.data)}
	for piece := range slices.Chunk(f.data, size) {
		f.manifest.Shards = append(f.manifest.Shards, sha256.Sum256(piece))
		f.places = append(f.places, &place{data: make([]byte, len(piece))})
	}
	f.checks = make([]*verify.Check, len(f.places))
	opts := verify.Options{
		Manifest: f.manifest, Listed: f.manifest.Digest,
		Open: func(s shard.Shard) (verify.Place, error) {
			f.opened++
			return f.places[s.Number-1], nil
		},
	}
	if change != nil {
		change(f, &opts)
	}
	f.manifest = opts.Manifest
	f.Verifier = verify.New(opts)
	return f
}

// eachByItself has shards checked one by one.
func eachByItself(_ *file, opts *verify.Options) { opts.BLAKE3 = true }

// right returns the bytes of a shard.
func (f *file) right(number int) []byte {
	s := f.manifest.Shard(number)
	return bytes.Clone(f.data[s.Offset : s.Offset+s.Size])
}

// wrong returns the same of which one byte is another.
func (f *file) wrong(number int) []byte { return flipped(f.right(number), 10) }

func flipped(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

// check returns the checking of a shard, which it begins if need be.
func (f *file) check(number int) *verify.Check {
	if f.checks[number-1] == nil {
		f.checks[number-1] = f.Began(f.manifest.Shard(number), f.places[number-1], 0)
	}
	return f.checks[number-1]
}

// send has a server send part of a shard, as package transfer does.
func (f *file) send(t require.TestingT, number int, from verify.Sender, offset int, data []byte) *verify.Check {
	c := f.check(number)
	if c.Alone() && offset == 0 {
		c.Anew()
	}
	require.NoError(t, c.Compare(int64(offset), data))
	copy(f.places[number-1].data[offset:], data)
	c.Wrote(from, int64(offset), data)
	c.Part()
	return c
}

// result is how a shard is.
type result struct {
	number int
	right  bool
}

// early has so many shards checked that wait for their turn, and returns the results of all.
func (f *file) early(t *testing.T, shards int, wanted func(number int) bool) map[result]bool {
	t.Helper()
	got := make(map[result]bool)
	for range shards {
		c := f.Waiting(wanted)
		require.NotNil(t, c)
		results, _ := f.came(t.Context(), t, c)
		require.Len(t, results, 1)
		got[results[0]] = true
	}
	return got
}

// came returns the verdicts when all of a shard has come, and has the wrong ones come again.
func (f *file) came(ctx context.Context, t require.TestingT, c *verify.Check) (results []result, last verify.Verdict) {
	for v, err := range f.Came(ctx, c, make([]byte, 64)) {
		require.NoError(t, err)
		results, last = append(results, result{v.Check.Shard.Number, v.Right}), v
		if v.Right {
			require.Equal(t, f.right(v.Check.Shard.Number), f.places[v.Check.Shard.Number-1].data)
			require.Equal(t, f.manifest.Shards[v.Check.Shard.Number-1], v.Got)
			continue
		}
		require.ErrorIs(t, v.Err, shard.ErrDigest)
		v.Check.Again(v)
	}
	return results, last
}

// bring has a server send a whole shard, and returns the verdicts then.
func (f *file) bring(t *testing.T, number int, name string, data []byte) ([]result, verify.Verdict) {
	t.Helper()
	return f.came(t.Context(), t, f.send(t, number, verify.Sender{Name: name}, 0, data))
}

// whole waits for the digests, and requires the error to be none.
func (f *file) whole(t *testing.T) {
	t.Helper()
	got, _, err := f.Whole(t.Context())
	require.NoError(t, err)
	assert.Equal(t, f.manifest.Digest, got)
}

func TestOneByOneEachShardHasItsVerdictAtOnce(t *testing.T) {
	f := newFile(4, eachByItself)
	for _, number := range []int{3, 1, 4, 2} {
		results, _ := f.bring(t, number, "A", f.right(number))
		assert.Equal(t, []result{{number, true}}, results)
	}
	f.whole(t)
}

func TestInOrderAShardHasItsVerdictInItsTurn(t *testing.T) {
	f := newFile(5, nil)
	for _, number := range []int{3, 5, 2} {
		results, _ := f.bring(t, number, "A", f.right(number))
		assert.Empty(t, results, "shard %d", number)
	}
	results, _ := f.bring(t, 1, "A", f.right(1))
	assert.Equal(t, []result{{1, true}, {2, true}, {3, true}}, results)
	results, _ = f.bring(t, 4, "A", f.right(4))
	assert.Equal(t, []result{{4, true}, {5, true}}, results)
	assert.Zero(t, f.opened, "no shard is read again")
	f.whole(t)
}

func TestInOrderAWrongShardHoldsUpThoseAfterIt(t *testing.T) {
	f := newFile(4, nil)
	for _, number := range []int{2, 4} {
		_, _ = f.bring(t, number, "A", f.right(number))
	}
	results, _ := f.bring(t, 3, "A", f.wrong(3))
	assert.Empty(t, results, "it is not its turn")
	results, last := f.bring(t, 1, "A", f.right(1))
	assert.Equal(t, []result{{1, true}, {2, true}, {3, false}}, results)
	assert.Equal(t, []string{"A"}, last.Blame)
	results, _ = f.bring(t, 3, "B", f.right(3))
	assert.Equal(t, []result{{3, true}, {4, true}}, results)
	f.whole(t)
}

func TestTheFirstShardOfEachServerIsVerifiedAtOnce(t *testing.T) {
	f := newFile(6, nil)
	results, last := f.bring(t, 6, "bad", f.wrong(6))
	assert.Equal(t, []result{{6, false}}, results, "although its turn is far away")
	assert.Equal(t, []string{"bad"}, last.Blame)
	results, _ = f.bring(t, 5, "good", f.right(5))
	assert.Empty(t, results)
	results, _ = f.bring(t, 4, "good", f.wrong(4))
	assert.Empty(t, results, "a server that is proven is believed until the turn")
	results, last = f.bring(t, 3, "bad", f.wrong(3))
	assert.Equal(t, []result{{3, false}}, results, "a server that was wrong is not proven by that")
	assert.Equal(t, []string{"bad"}, last.Blame)
}

// gate is a place whose reads wait.
type gate struct {
	place

	open chan struct{}
}

func (g *gate) ReadAt(buf []byte, offset int64) (int, error) {
	<-g.open
	return g.place.ReadAt(buf, offset)
}

func TestShardsOfAServerThatIsBeingProvenWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(6, nil)
		slow := &gate{place{data: f.places[5].data}, make(chan struct{})}
		f.checks[5] = f.Began(f.manifest.Shard(6), slow, 0)
		first := f.send(t, 6, verify.Sender{Name: "A"}, 0, f.wrong(6))
		second := f.send(t, 5, verify.Sender{Name: "A"}, 0, f.wrong(5))
		third := f.send(t, 4, verify.Sender{Name: "A"}, 0, f.wrong(4))
		var mu sync.Mutex
		var results []result
		var group sync.WaitGroup
		come := func(ctx context.Context, c *verify.Check) {
			group.Go(func() {
				got, _ := f.came(ctx, t, c)
				mu.Lock()
				defer mu.Unlock()
				results = append(results, got...)
			})
		}
		come(t.Context(), first)
		synctest.Wait()
		come(t.Context(), second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, err := range f.Came(ctx, third, nil) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		assert.Empty(t, results)
		close(slow.open)
		group.Wait()
		assert.ElementsMatch(t, []result{{6, false}, {5, false}}, results)
	})
}

func TestAShardThatIsWantedIsCheckedBeforeItsTurn(t *testing.T) {
	f := newFile(6, nil)
	wanted := func(number int) bool { return number > 3 }
	for _, number := range []int{5, 3, 2} {
		results, _ := f.bring(t, number, "A", f.right(number))
		require.Empty(t, results)
	}
	results, _ := f.bring(t, 6, "A", f.wrong(6))
	require.Empty(t, results)
	got := f.early(t, 2, wanted)
	assert.Equal(t, map[result]bool{{5, true}: true, {6, false}: true}, got)
	assert.Nil(t, f.Waiting(wanted), "the others are not wanted")
	results, _ = f.bring(t, 6, "B", f.right(6))
	assert.Equal(t, []result{{6, true}}, results, "it is wanted still")
	results, _ = f.bring(t, 1, "A", f.right(1))
	assert.Equal(t, []result{{1, true}, {2, true}, {3, true}}, results)
	results, _ = f.bring(t, 4, "A", f.right(4))
	assert.Equal(t, []result{{4, true}}, results)
	f.whole(t)
}

func TestAShardWhoseTurnIsNearIsNotCheckedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(4, nil)
		all := func(int) bool { return true }
		slow := &gate{place{data: f.places[0].data}, make(chan struct{})}
		_, _ = f.bring(t, 4, "A", f.right(4)) // which proves the server
		f.checks[0] = f.Began(f.manifest.Shard(1), slow, 0)
		first := f.send(t, 1, verify.Sender{Name: "A"}, 0, f.right(1))
		var group sync.WaitGroup
		group.Go(func() {
			results, _ := f.came(t.Context(), t, first)
			assert.Equal(t, []result{{1, true}, {2, true}}, results)
		})
		synctest.Wait()
		results, _ := f.bring(t, 2, "A", f.right(2))
		assert.Empty(t, results)
		c := f.Waiting(all)
		require.NotNil(t, c)
		assert.Equal(t, 4, c.Shard.Number, "the second is next, and the third has not come")
		assert.Nil(t, f.Waiting(all))
		close(slow.open)
		group.Wait()
	})
}

func TestEachBeginsLaterAndNeverEnds(t *testing.T) {
	f := newFile(6, nil)
	assert.Nil(t, f.Waiting(noneEarly))
	for _, number := range []int{2, 4} {
		results, _ := f.bring(t, number, "A", f.right(number))
		require.Empty(t, results)
	}
	begun := f.send(t, 5, verify.Sender{Name: "A"}, 0, f.right(5))
	results, _ := f.bring(t, 3, "A", f.wrong(3))
	require.Empty(t, results)
	assert.Nil(t, f.Waiting(noneEarly), "they wait for their turn")
	f.Each()
	results, _ = f.came(t.Context(), t, begun)
	assert.Equal(t, []result{{5, true}}, results, "a shard that had begun before")
	got := f.early(t, 3, nil)
	assert.Equal(t, map[result]bool{{2, true}: true, {3, false}: true, {4, true}: true}, got)
	results, _ = f.bring(t, 6, "A", f.right(6))
	assert.Equal(t, []result{{6, true}}, results)
	results, _ = f.bring(t, 1, "A", f.right(1))
	assert.Equal(t, []result{{1, true}}, results)
	results, _ = f.bring(t, 3, "B", f.right(3))
	assert.Equal(t, []result{{3, true}}, results)
	assert.Nil(t, f.Waiting(noneEarly), "all have their verdicts")
	f.whole(t)
}

func TestDataThatWasThereIsHashedWithTheRest(t *testing.T) {
	for name, change := range map[string]func(*file, *verify.Options){"in order": nil, "one by one": eachByItself} {
		t.Run(name, func(t *testing.T) {
			f := newFile(2, change)
			copy(f.places[0].data, f.right(1)[:40])
			f.checks[0] = f.Began(f.manifest.Shard(1), f.places[0], 40)
			require.NoError(t, f.checks[0].ReadBack(40, make([]byte, 16)))
			assert.EqualValues(t, 40, f.checks[0].Present())
			results, _ := f.came(t.Context(), t, f.send(t, 1, verify.Sender{Name: "A"}, 40, f.right(1)[40:]))
			assert.Equal(t, []result{{1, true}}, results)
			results, _ = f.bring(t, 2, "A", f.right(2))
			assert.Equal(t, []result{{2, true}}, results)
			f.whole(t)
		})
	}
}

func TestBlame(t *testing.T) {
	a, b, relay := verify.Sender{Name: "A"}, verify.Sender{Name: "B"}, verify.Sender{Name: "relay", Relayed: true}
	type part struct {
		from     verify.Sender
		offset   int
		to       int
		mistaken bool
	}
	for name, tc := range map[string]struct {
		present bool   // the first 30 bytes were there
		parts   []part // of the shard as it is wrong
		blame   []string
		alone   []part   // of the shard alone, which is right
		later   []string // to blame then
	}{
		"one server in one part": {parts: []part{{a, 0, 100, true}}, blame: []string{"A"}},
		"a relay in one part":    {parts: []part{{relay, 0, 100, true}}, blame: []string{"relay"}},
		"two servers, one wrong": {
			parts: []part{{a, 0, 50, true}, {b, 50, 100, false}},
			alone: []part{{b, 0, 100, false}}, later: []string{"A"},
		},
		"two servers, both wrong": {
			parts: []part{{a, 0, 50, true}, {b, 50, 100, true}},
			alone: []part{{verify.Sender{Name: "C"}, 0, 60, false}, {verify.Sender{Name: "C"}, 60, 100, false}},
			later: []string{"A", "B"},
		},
		"the wrong one sends it right then": {
			parts: []part{{a, 0, 50, true}, {b, 50, 100, false}},
			alone: []part{{a, 0, 100, false}}, later: []string{"A"},
		},
		"data that was there": {
			present: true, parts: []part{{a, 30, 100, false}}, alone: []part{{a, 0, 100, false}},
		},
		"data that was there, and a wrong server": {
			present: true, parts: []part{{a, 30, 100, true}}, alone: []part{{b, 0, 100, false}}, later: []string{"A"},
		},
		"a relay among others": {
			parts: []part{{relay, 0, 50, true}, {b, 50, 100, false}}, alone: []part{{b, 0, 100, false}},
		},
		"one server in two parts": {
			parts: []part{{a, 0, 50, true}, {a, 50, 100, false}},
			alone: []part{{a, 0, 100, false}}, later: []string{"A"},
		},
	} {
		for way, change := range map[string]func(*file, *verify.Options){"in order": nil, "one by one": eachByItself} {
			t.Run(name+", "+way, func(t *testing.T) {
				f := newFile(2, change)
				if tc.present {
					copy(f.places[0].data, f.wrong(1)[:30])
					f.checks[0] = f.Began(f.manifest.Shard(1), f.places[0], 30)
					require.NoError(t, f.checks[0].ReadBack(30, make([]byte, 16)))
				}
				send := func(parts []part) ([]result, verify.Verdict) {
					for _, p := range parts {
						data := f.right(1)[p.offset:p.to]
						if p.mistaken {
							data = flipped(data, len(data)/2)
						}
						f.send(t, 1, p.from, p.offset, data)
					}
					return f.came(t.Context(), t, f.check(1))
				}
				results, v := send(tc.parts)
				require.Equal(t, []result{{1, false}}, results)
				assert.Equal(t, tc.blame, v.Blame)
				assert.Equal(t, tc.blame == nil, v.Alone)
				assert.Equal(t, v.Alone, f.check(1).Alone())
				assert.Equal(t, 1, f.check(1).Wrongs())
				assert.Zero(t, f.check(1).Present())
				if tc.alone == nil {
					return
				}
				results, v = send(tc.alone)
				assert.Equal(t, []result{{1, true}}, results)
				assert.ElementsMatch(t, tc.later, v.Blame)
			})
		}
	}
}

// A relay that finds a shard wrong breaks off, and goes on with another one.
func TestAServerIsToBlameForAShardInSeveralPartsAfterTheThirdTime(t *testing.T) {
	f := newFile(1, eachByItself)
	for time := range 3 {
		f.send(t, 1, verify.Sender{Name: "A"}, 0, f.wrong(1)[:50])
		_, v := f.came(t.Context(), t, f.send(t, 1, verify.Sender{Name: "A"}, 50, f.right(1)[50:]))
		require.False(t, v.Right)
		if time < 2 {
			require.Empty(t, v.Blame)
		} else {
			require.Equal(t, []string{"A"}, v.Blame)
		}
	}
}

// One that says of all its bytes that it only passes them on, and breaks off, would have every
// shard come twice.
func TestARelayIsToBlameForTheThirdWrongShard(t *testing.T) {
	for way, change := range map[string]func(*file, *verify.Options){"in order": nil, "one by one": eachByItself} {
		t.Run(way, func(t *testing.T) {
			f := newFile(4, change)
			honest := verify.Sender{Name: "A"}
			for number := 1; number <= 3; number++ {
				f.send(t, number, verify.Sender{Name: "relay", Relayed: true}, 0, f.wrong(number)[:50])
				f.came(t.Context(), t, f.send(t, number, honest, 50, f.right(number)[50:]))
				require.True(t, f.check(number).Alone())
				_, v := f.came(t.Context(), t, f.send(t, number, honest, 0, f.right(number)))
				require.True(t, v.Right)
				if number < 3 {
					require.Empty(t, v.Blame)
				} else {
					require.Equal(t, []string{"relay"}, v.Blame)
				}
			}
		})
	}
}

func TestWhole(t *testing.T) {
	blake := func(f *file) (d shard.Digest) {
		h := shard.NewBLAKE3()
		_, _ = h.Write(f.data)
		h.Sum(d[:0])
		return d
	}
	other := shard.Digest{1, 2, 3}
	for name, tc := range map[string]struct {
		change func(f *file, opts *verify.Options)
		err    string
		blake3 bool
	}{
		"right": {nil, "", false},
		"another digest is listed": {func(_ *file, opts *verify.Options) {
			opts.Listed = other
		}, "although all its shards are there", true},
		"the digest of shards that are not the file's": {func(_ *file, opts *verify.Options) {
			opts.Manifest.Digest, opts.Listed = other, other
		}, "although all its shards are there", false},
		"it is listed by its BLAKE3": {func(f *file, opts *verify.Options) {
			opts.Listed, opts.Manifest.BLAKE3 = blake(f), blake(f)
		}, "", true},
		"and the manifest's SHA-256 is another": {func(f *file, opts *verify.Options) {
			opts.Listed, opts.Manifest.BLAKE3, opts.Manifest.Digest = blake(f), blake(f), other
		}, "its manifest has other digests", true},
		"the manifest's BLAKE3 is another": {func(_ *file, opts *verify.Options) {
			opts.Manifest.BLAKE3, opts.BLAKE3 = other, true
		}, "its manifest has other digests", true},
		"the manifest's BLAKE3 is another, which nothing depends on": {func(_ *file, opts *verify.Options) {
			opts.Manifest.BLAKE3 = other
		}, "", false},
		"the BLAKE3 is asked for": {func(_ *file, opts *verify.Options) { opts.BLAKE3 = true }, "", true},
		"a plain server's file":   {func(_ *file, opts *verify.Options) { opts.Plain = true }, "", true},
		"a plain server's file, listed by its BLAKE3": {func(f *file, opts *verify.Options) {
			opts.Plain, opts.Listed = true, blake(f)
		}, "", true},
		"a plain server's file that is another": {func(_ *file, opts *verify.Options) {
			opts.Plain, opts.Listed = true, other
		}, "although all its shards are there", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFile(3, tc.change)
			for number := range 3 {
				results, _ := f.bring(t, number+1, "A", f.right(number+1))
				require.Equal(t, []result{{number + 1, true}}, results)
			}
			gotSHA256, gotBLAKE3, err := f.Whole(t.Context())
			if tc.err != "" {
				require.ErrorIs(t, err, shard.ErrIntegrity)
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			assert.EqualValues(t, sha256.Sum256(f.data), gotSHA256)
			if tc.blake3 {
				assert.Equal(t, blake(f), gotBLAKE3)
			} else {
				assert.Zero(t, gotBLAKE3)
			}
		})
	}
}

func TestAPlainServersShardsHaveTheDigestsThatTheyHave(t *testing.T) {
	f := newFile(2, func(_ *file, opts *verify.Options) {
		opts.Plain, opts.Manifest.Shards = true, make([]shard.Digest, 2)
	})
	for v, err := range f.Came(t.Context(), f.send(t, 1, verify.Sender{Name: "A"}, 0, f.wrong(1)), nil) {
		require.NoError(t, err)
		assert.True(t, v.Right, "nothing says that it is wrong")
		assert.EqualValues(t, sha256.Sum256(f.wrong(1)), v.Got)
	}
}

func TestTheWholeOfAnEmptyFileIsKnownAtOnce(t *testing.T) {
	for _, change := range []func(*file, *verify.Options){nil, eachByItself} {
		newFile(0, change).whole(t)
	}
}

func TestWholeEndsWithItsContext(t *testing.T) {
	for _, change := range []func(*file, *verify.Options){nil, eachByItself} {
		synctest.Test(t, func(t *testing.T) {
			f := newFile(2, change)
			_, _ = f.bring(t, 1, "A", f.right(1))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err := f.Whole(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

func TestErrorsOfPlacesEndTheChecking(t *testing.T) {
	broken := errors.New("input/output error")
	for name, change := range map[string]func(*file, *verify.Options){"in order": nil, "one by one": eachByItself} {
		t.Run(name, func(t *testing.T) {
			f := newFile(1, change)
			c := f.Began(f.manifest.Shard(1), f.places[0], 100)
			f.places[0].err = broken
			got := 0
			for _, err := range f.Came(t.Context(), c, make([]byte, 64)) {
				require.ErrorIs(t, err, broken)
				got++
			}
			assert.Equal(t, 1, got)
			f.places[0].err = nil
			f.places[0].data = f.places[0].data[:50]
			for _, err := range f.Came(t.Context(), f.Began(f.manifest.Shard(1), f.places[0], 100), make([]byte, 64)) {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			}
		})
	}
	t.Run("of the whole", func(t *testing.T) {
		f := newFile(1, eachByItself)
		_, _ = f.bring(t, 1, "A", f.right(1))
		f.places[0].err = broken
		_, _, err := f.Whole(t.Context())
		require.ErrorIs(t, err, broken)
		require.NotErrorIs(t, err, shard.ErrIntegrity)
	})
}

// Shards come in any order and in any parts, from servers of which some send wrong bytes,
// and shards are checked one by one from any moment on: all are right in the end, and no
// server is blamed that sent nothing wrong.
func TestShardsAreRightInTheEndAndNoServerIsBlamedWithoutCause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const shards = 6
		var change func(*file, *verify.Options)
		if rapid.Bool().Draw(t, "one by one") {
			change = eachByItself
		}
		f := newFile(shards, change)
		servers := []verify.Sender{{Name: "honest"}, {Name: "A"}, {Name: "B"}, {Name: "relay", Relayed: true}}
		lies := make(map[string]bool)
		for _, s := range servers[1:] {
			lies[s.Name] = rapid.Bool().Draw(t, "lies")
		}
		blamed, lied, right := make(map[string]bool), make(map[string]bool), make(map[int]bool)
		missing := rapid.Permutation([]int{1, 2, 3, 4, 5, 6}).Draw(t, "order")
		count := func(c *verify.Check) {
			for v, err := range f.Came(context.Background(), c, make([]byte, 32)) {
				require.NoError(t, err)
				for _, name := range v.Blame {
					blamed[name] = true
					require.True(t, lied[name], "%s is blamed, but sent nothing wrong", name)
				}
				number := v.Check.Shard.Number
				if v.Right {
					require.False(t, right[number], "shard %d is right twice", number)
					require.Equal(t, f.right(number), f.places[number-1].data)
					right[number] = true
					continue
				}
				v.Check.Again(v)
				missing = append(missing, number)
			}
		}
		for rounds := 0; len(missing) > 0; rounds++ {
			require.Less(t, rounds, 500, "shards come again and again")
			number := missing[0]
			missing = missing[1:]
			server := servers[0]
			for offset, size := 0, len(f.right(number)); offset < size; {
				end := rapid.IntRange(offset+1, size).Draw(t, "to")
				if offset == 0 || !f.check(number).Alone() {
					server = rapid.SampledFrom(servers).Draw(t, "server")
				}
				if blamed[server.Name] || rounds > 40 {
					server = servers[0]
				}
				data := f.right(number)[offset:end]
				if lies[server.Name] {
					data, lied[server.Name] = flipped(data, 0), true
				}
				f.send(t, number, server, offset, data)
				offset = end
			}
			count(f.check(number))
			if rapid.IntRange(0, 9).Draw(t, "each") == 0 {
				f.Each()
			}
			for c, turns := f.Waiting(noneEarly), 0; c != nil; c = f.Waiting(noneEarly) {
				if turns++; turns > shards {
					require.Fail(t, "a shard waits again and again")
				}
				count(c)
			}
		}
		require.Len(t, right, shards)
		got, _, err := f.Whole(context.Background())
		require.NoError(t, err)
		require.Equal(t, f.manifest.Digest, got)
	})
}

// signed has the publisher vouch for the manifest.
func signed(_ *file, opts *verify.Options) { opts.Signed = true }

func TestASignedManifestNeedsNoDigestOfTheWhole(t *testing.T) {
	f := newFile(4, func(_ *file, opts *verify.Options) {
		opts.Signed = true
		opts.Open = func(shard.Shard) (verify.Place, error) { return nil, errors.New("nothing is read again") }
	})
	for _, number := range []int{4, 2, 1, 3} { // each by itself, in any order
		got, _ := f.bring(t, number, "a", f.right(number))
		assert.Equal(t, []result{{number, true}}, got)
	}
	f.whole(t)
	f = newFile(0, signed)
	f.whole(t)
}

func TestAWrongShardOfASignedManifestIsFoundAtOnce(t *testing.T) {
	f := newFile(4, signed)
	f.bring(t, 1, "a", f.right(1)) // so a has proven itself, and shards before the next one are missing
	got, v := f.bring(t, 4, "a", f.wrong(4))
	assert.Equal(t, []result{{4, false}}, got)
	assert.Equal(t, []string{"a"}, v.Blame)
}

func TestASignedManifestsShardsAreHashedByThoseThatReceiveThem(t *testing.T) {
	f := newFile(3, signed)
	c := f.send(t, 2, verify.Sender{Name: "a"}, 0, f.right(2))
	f.places[1].err = errors.New("it is not read back")
	got, _ := f.came(t.Context(), t, c)
	assert.Equal(t, []result{{2, true}}, got)
}

func TestOfASignedFileTheBLAKE3AloneIsComputedWhereItIsAskedFor(t *testing.T) {
	f := newFile(3, func(_ *file, opts *verify.Options) {
		opts.Signed, opts.BLAKE3 = true, true
		opts.Manifest.Digest = shard.Digest{7} // as is stated, whatever the bytes are
		opts.Listed = opts.Manifest.Digest
	})
	for number := 1; number <= 3; number++ {
		f.bring(t, number, "a", f.right(number))
	}
	sha256, blake3, err := f.Whole(t.Context())
	require.NoError(t, err)
	assert.Equal(t, shard.Digest{7}, sha256)
	b := shard.NewBLAKE3()
	_, _ = b.Write(f.data)
	assert.Equal(t, shard.Digest(b.Sum(nil)), blake3)
}
