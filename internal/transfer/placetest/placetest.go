// Package placetest tests implementations of the places where shards go. A fetch
// relies on all that these tests hold, of every implementation alike: bytes lie where
// they were written, an interrupted fetch finds its progress, and shards do not touch
// one another.
package placetest

import (
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/transfer"
)

// An Implementation keeps the shards of one version in a directory.
type Implementation struct {
	// Open opens the version of m in dir, with the data of an earlier, interrupted fetch.
	// The function that it returns ends the use as an interrupted fetch does.
	Open func(t *testing.T, dir string, m shard.Manifest) (sink transfer.Sink, end func())

	// File returns the file below dir that holds the bytes of s, and the offset of the first.
	File func(dir string, s shard.Shard) (name string, offset int64)
}

// The version of the tests: shards that no block of a file system divides, the last of
// them a shorter one.
const (
	shardSize = 1<<20 + 777
	size      = 2*shardSize + 100_001
)

// version returns a version's bytes and manifest, the same for the same seed.
func version(seed byte) ([]byte, shard.Manifest) {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	m := shard.Manifest{Name: "weights.bin", Size: size, ShardSize: shardSize, Digest: sha256.Sum256(data)}
	for piece := range slices.Chunk(data, shardSize) {
		m.Shards = append(m.Shards, sha256.Sum256(piece))
	}
	return data, m
}

// kept is a version in a directory, kept by an implementation.
type kept struct {
	implementation Implementation
	dir            string
	data           []byte
	manifest       shard.Manifest
	sink           transfer.Sink
	end            func()
}

func begin(t *testing.T, i Implementation) *kept {
	t.Helper()
	k := &kept{implementation: i, dir: t.TempDir()}
	k.data, k.manifest = version(1)
	k.sink, k.end = i.Open(t, k.dir, k.manifest)
	t.Cleanup(func() { k.end() })
	return k
}

// again interrupts the fetch, and begins another one of the same version.
func (k *kept) again(t *testing.T) {
	t.Helper()
	k.end()
	k.sink, k.end = k.implementation.Open(t, k.dir, k.manifest)
}

// numbers yields the numbers of the shards.
func (k *kept) numbers() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range k.manifest.Shards {
			if !yield(i + 1) {
				return
			}
		}
	}
}

// open opens the place of shard number.
func (k *kept) open(t *testing.T, number int) transfer.Place {
	t.Helper()
	p, err := k.sink.Open(k.manifest.Shard(number))
	require.NoError(t, err)
	return p
}

// bytes returns the bytes of shard number.
func (k *kept) bytes(number int) []byte {
	s := k.manifest.Shard(number)
	return k.data[s.Offset : s.Offset+s.Size]
}

// write writes the bytes of shard number in r to p.
func (k *kept) write(t *testing.T, p transfer.Place, number int, r disk.Range) {
	t.Helper()
	n, err := p.WriteAt(k.bytes(number)[r.From:r.To], r.From)
	require.NoError(t, err)
	require.EqualValues(t, r.To-r.From, n)
}

// all is the range of shard number.
func (k *kept) all(number int) disk.Range { return disk.Range{To: k.manifest.Shard(number).Size} }

// requireOnDisk says that the bytes of shard number in r are in its file.
func (k *kept) requireOnDisk(t *testing.T, number int, r disk.Range) {
	t.Helper()
	name, offset := k.implementation.File(k.dir, k.manifest.Shard(number))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	requireRead(t, io.NewSectionReader(f, offset, k.manifest.Shard(number).Size), k.bytes(number), r)
}

// requireRead says that from is want in r.
func requireRead(t *testing.T, from io.ReaderAt, want []byte, r disk.Range) {
	t.Helper()
	got := make([]byte, r.To-r.From)
	n, err := from.ReadAt(got, r.From)
	if !errors.Is(err, io.EOF) || n < len(got) { // at the end both are allowed
		require.NoError(t, err)
	}
	require.True(t, slices.Equal(want[r.From:r.To], got), "other bytes from %d to %d", r.From, r.To)
}

func requireClosed(t *testing.T, p transfer.Place) {
	t.Helper()
	require.NoError(t, p.Close())
}

// Test runs all tests of the package on i.
func Test(t *testing.T, i Implementation) {
	for name, test := range map[string]func(t *testing.T, k *kept){
		"bytes are read where they were written":       readsWrites,
		"nothing is read beyond the size":              endsAtTheSize,
		"shards do not touch one another":              keepsShardsApart,
		"an interrupted fetch finds its progress":      findsProgress,
		"a new version has no progress":                beginsEmpty,
		"a committed shard is found whole":             commits,
		"two places of a shard are one":                opensTwice,
		"wrong bytes are written again":                rewrites,
		"ranges are written at the same time":          writesConcurrently,
		"another version's bytes are not left between": replacesAnother,
	} {
		t.Run(name, func(t *testing.T) { test(t, begin(t, i)) })
	}
}

func readsWrites(t *testing.T, k *kept) {
	for number := range k.numbers() {
		p, end := k.open(t, number), k.all(number).To
		for _, r := range []disk.Range{
			{From: 50_000, To: 70_000}, {To: 50_000}, {From: end - 1, To: end}, {From: 70_000, To: end - 1},
		} {
			k.write(t, p, number, r)
			requireRead(t, p, k.bytes(number), r)
		}
		requireRead(t, p, k.bytes(number), k.all(number))
		requireClosed(t, p)
		k.requireOnDisk(t, number, k.all(number))
	}
}

func endsAtTheSize(t *testing.T, k *kept) {
	for number := len(k.manifest.Shards); number > 0; number-- { // so that bytes follow each but the last
		p := k.open(t, number)
		k.write(t, p, number, k.all(number))
		buf := make([]byte, 100)
		n, err := p.ReadAt(buf, k.all(number).To-10)
		require.ErrorIs(t, err, io.EOF)
		assert.Equal(t, 10, n)
		n, err = p.ReadAt(buf, k.all(number).To)
		require.ErrorIs(t, err, io.EOF)
		assert.Zero(t, n)
		requireClosed(t, p)
	}
}

func keepsShardsApart(t *testing.T, k *kept) {
	var places []transfer.Place
	for number := range k.numbers() {
		places = append(places, k.open(t, number))
	}
	k.write(t, places[1], 2, k.all(2))
	for _, i := range []int{0, 2} {
		found, err := places[i].Written()
		require.NoError(t, err)
		assert.Empty(t, found, "shard %d", i+1)
	}
	require.NoError(t, places[0].Commit())
	for i, p := range places {
		k.write(t, p, i+1, k.all(i+1))
	}
	for i, p := range places {
		requireRead(t, p, k.bytes(i+1), k.all(i+1))
		requireClosed(t, p)
	}
}

// slack is by how much the progress may fall short of a range that was written, at each end of
// it, in bytes: the unit of a file system's holes, where a block may be written in part.
const slack = 1 << 16

func findsProgress(t *testing.T, k *kept) {
	ranges := []disk.Range{{To: 200_000}, {From: 500_000, To: 900_000}}
	p := k.open(t, 2)
	for _, r := range ranges {
		k.write(t, p, 2, r)
	}
	requireClosed(t, p)
	k.again(t)
	p = k.open(t, 2)
	found := progress(t, k, p, 2)
	for _, r := range ranges {
		covered := slices.ContainsFunc(found, func(f disk.Range) bool {
			return f.From <= r.From+slack && r.To-slack <= f.To
		})
		assert.True(t, covered, "%v is lost of %v", r, found)
		requireRead(t, p, k.bytes(2), r)
	}
	for _, f := range found {
		within := slices.ContainsFunc(ranges, func(r disk.Range) bool { return r.From <= f.From && f.To <= r.To })
		assert.True(t, within || !tellsHoles(t), "%v was never written", f)
	}
	requireClosed(t, p)
	for _, number := range []int{1, 3} {
		p := k.open(t, number)
		assert.True(t, len(progress(t, k, p, number)) == 0 || !tellsHoles(t), "shard %d", number)
		requireClosed(t, p)
	}
}

// progress returns the ranges that p reports as written, which are ascending and within the
// shard.
func progress(t *testing.T, k *kept, p transfer.Place, number int) []disk.Range {
	t.Helper()
	found, err := p.Written()
	require.NoError(t, err)
	at := int64(0)
	for _, f := range found {
		require.LessOrEqual(t, at, f.From)
		require.Less(t, f.From, f.To)
		at = f.To
	}
	require.LessOrEqual(t, at, k.all(number).To)
	return found
}

// tellsHoles reports whether the file system of the tests tells holes from bytes.
func tellsHoles(t *testing.T) bool {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(1<<20))
	found, err := disk.Written(f, 0, 1<<20)
	require.NoError(t, err)
	return len(found) == 0
}

func beginsEmpty(t *testing.T, k *kept) {
	for number := range k.numbers() {
		p := k.open(t, number)
		assert.Empty(t, progress(t, k, p, number))
		requireClosed(t, p)
	}
}

func commits(t *testing.T, k *kept) {
	p := k.open(t, 2)
	k.write(t, p, 2, k.all(2))
	require.NoError(t, p.Commit())
	k.requireOnDisk(t, 2, k.all(2))
	requireRead(t, p, k.bytes(2), k.all(2))
	requireClosed(t, p)
	k.again(t)
	p = k.open(t, 2)
	found := progress(t, k, p, 2)
	require.NotEmpty(t, found)
	assert.LessOrEqual(t, found[0].From, int64(slack))
	assert.GreaterOrEqual(t, found[len(found)-1].To, k.all(2).To-slack)
	requireRead(t, p, k.bytes(2), k.all(2))
	requireClosed(t, p)
}

// A shard is opened again while it is open, to hash it, or for another worker to bring its
// end.
func opensTwice(t *testing.T, k *kept) {
	const half = shardSize / 2
	one, two := k.open(t, 1), k.open(t, 1)
	k.write(t, one, 1, disk.Range{To: half})
	k.write(t, two, 1, disk.Range{From: half, To: shardSize})
	requireRead(t, one, k.bytes(1), k.all(1))
	requireRead(t, two, k.bytes(1), k.all(1))
	requireClosed(t, two)
	k.write(t, one, 1, disk.Range{From: half, To: shardSize}) // over the same bytes
	require.NoError(t, one.Commit())
	requireClosed(t, one)
	again := k.open(t, 1)
	requireRead(t, again, k.bytes(1), k.all(1))
	requireClosed(t, again)
	k.requireOnDisk(t, 1, k.all(1))
}

func rewrites(t *testing.T, k *kept) {
	p := k.open(t, 2)
	wrong := make([]byte, shardSize)
	_, err := p.WriteAt(wrong, 0)
	require.NoError(t, err)
	k.write(t, p, 2, k.all(2))
	require.NoError(t, p.Commit())
	requireRead(t, p, k.bytes(2), k.all(2))
	requireClosed(t, p)
	k.requireOnDisk(t, 2, k.all(2))
}

func writesConcurrently(t *testing.T, k *kept) {
	const step = 10_000
	var writers sync.WaitGroup
	for number := range k.numbers() {
		p := k.open(t, number)
		var of sync.WaitGroup
		for first := range int64(4) {
			write := func() {
				for from := first * step; from < k.all(number).To; from += 4 * step {
					r := disk.Range{From: from, To: min(from+step, k.all(number).To)}
					_, err := p.WriteAt(k.bytes(number)[r.From:r.To], r.From)
					got := make([]byte, r.To-r.From)
					n, _ := p.ReadAt(got, r.From)
					assert.True(t, err == nil && n == len(got), "%v: %v, %d bytes are read", r, err, n)
				}
			}
			of.Go(write)
		}
		writers.Go(func() {
			of.Wait()
			assert.NoError(t, errors.Join(p.Commit(), p.Close()))
		})
	}
	writers.Wait()
	for number := range k.numbers() {
		p := k.open(t, number)
		requireRead(t, p, k.bytes(number), k.all(number))
		requireClosed(t, p)
		k.requireOnDisk(t, number, k.all(number))
	}
}

// The directory may hold data of another version, cut into larger shards.
func replacesAnother(t *testing.T, k *kept) {
	p := k.open(t, 1)
	k.write(t, p, 1, k.all(1))
	requireClosed(t, p)
	k.data, k.manifest = version(2)
	k.data = k.data[:shardSize]
	k.manifest.Size, k.manifest.ShardSize = shardSize, shardSize/2+1
	k.manifest.Digest = sha256.Sum256(k.data)
	k.manifest.Shards = nil
	for piece := range slices.Chunk(k.data, shardSize/2+1) {
		k.manifest.Shards = append(k.manifest.Shards, sha256.Sum256(piece))
	}
	k.again(t)
	for number := range k.numbers() {
		p := k.open(t, number)
		progress(t, k, p, number) // of which nothing is believed
		k.write(t, p, number, k.all(number))
		require.NoError(t, p.Commit())
		requireRead(t, p, k.bytes(number), k.all(number))
		n, err := p.ReadAt(make([]byte, 10), k.all(number).To)
		require.ErrorIs(t, err, io.EOF)
		assert.Zero(t, n)
		requireClosed(t, p)
	}
}
