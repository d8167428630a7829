package match_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/match"
	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func random(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, (size+7)/8*8)
	for i := 0; i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], r.Uint64())
	}
	return data[:size:size]
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func streams(t require.TestingT, base, target []byte) []delta.Copy {
	copies, err := match.Streams(context.Background(), bytes.NewReader(base), bytes.NewReader(target))
	require.NoError(t, err)
	return copies
}

// size is that of the delta that copies make.
func size(t require.TestingT, base, target []byte, copies []delta.Copy) int {
	stats, err := delta.Encode(context.Background(), io.Discard, bytes.NewReader(base), bytes.NewReader(target), copies)
	require.NoError(t, err)
	return int(stats.Size)
}

func TestEqualSizesAreTheIdentity(t *testing.T) {
	base := synthetic.BF16(1, 1<<20)
	target := synthetic.Step(2, base, 2, 0.5)
	assert.Equal(t, []delta.Copy{{Size: 1 << 20}}, streams(t, base, target))
}

func TestMovedPartsAreFound(t *testing.T) {
	const n = 1 << 20
	base := random(1, n)
	for name, tc := range map[string]struct {
		target []byte
		copies []delta.Copy
	}{
		"the same": {base, []delta.Copy{{Size: n}}},
		"inserted": {
			join(base[:n/2], random(2, 5000), base[n/2:]),
			[]delta.Copy{{Size: n / 2}, {Offset: n/2 + 5000, Base: n / 2, Size: n / 2}},
		},
		"of the same size, inserted at the beginning": {
			join(random(2, 1000), base[:n-1000]),
			[]delta.Copy{{Offset: 1000, Size: n - 1000}},
		},
		"taken out": {
			join(base[:1000], base[5000:]),
			[]delta.Copy{{Size: 1000}, {Offset: 1000, Base: 5000, Size: n - 5000}},
		},
		"exchanged": {
			join(base[n/2:], base[:n/2]),
			[]delta.Copy{{Base: n / 2, Size: n / 2}, {Offset: n / 2, Size: n / 2}},
		},
		"twice": {
			join(base, base),
			[]delta.Copy{{Size: n}, {Offset: n, Size: n}},
		},
		"a small part alone": {
			join(random(3, 300), base[70_000:70_100]),
			[]delta.Copy{{Offset: 300, Base: 70_000, Size: 100}},
		},
		"nothing of it":         {random(4, n+1), nil},
		"less than a window":    {base[:20], []delta.Copy{{Size: 20}}},
		"nothing":               {nil, nil},
		"the beginning":         {base[:n/2], []delta.Copy{{Size: n / 2}}},
		"the end":               {base[n/2:], []delta.Copy{{Base: n / 2, Size: n / 2}}},
		"more of it at the end": {join(base, random(5, 77)), []delta.Copy{{Size: n}}},
		"more at the beginning": {join(random(5, 77), base), []delta.Copy{{Offset: 77, Size: n}}},
		"of the end, then begin": {
			join(base[n-64:], base[:64]),
			[]delta.Copy{{Base: n - 64, Size: 64}, {Offset: 64, Size: 64}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			// A copy may begin or end some bytes off, where these are equal by chance.
			got := streams(t, base, tc.target)
			require.Len(t, got, len(tc.copies))
			for i, want := range tc.copies {
				assert.InDelta(t, want.Offset, got[i].Offset, 8)
				assert.InDelta(t, want.Base, got[i].Base, 8)
				assert.InDelta(t, want.Size, got[i].Size, 16)
			}
			assert.Less(t, size(t, base, tc.target, got)-size(t, base, tc.target, tc.copies), 20)
		})
	}
}

// TestInsertionCostsWhatIsInserted is a small form of random bytes in the middle of 1 GiB.
func TestInsertionCostsWhatIsInserted(t *testing.T) {
	const n = 8 << 20
	base := random(1, n)
	target := join(base[:n/2+333], random(2, 10_001), base[n/2+333:])
	assert.Less(t, size(t, base, target, streams(t, base, target)), 10_001+200)
}

func TestMovedCodeWithOtherAddressesIsOneCopy(t *testing.T) {
	const n = 300_000
	base := random(1, n)
	moved := bytes.Clone(base)
	for i := 10; i+4 < n; i += 60 {
		binary.LittleEndian.PutUint32(moved[i:], binary.LittleEndian.Uint32(moved[i:])+0x1240)
	}
	target := join(random(2, 0x1240), moved)
	copies := streams(t, base, target)
	require.Len(t, copies, 1)
	assert.Less(t, size(t, base, target, copies), 0x1240+n/60/8+500)
}

func TestWhatIsNothingButRepetitionIsSearched(t *testing.T) {
	for _, period := range []int{1, 2, 3, 31, 33, 1000} {
		unit := random(uint64(period), period)
		base, target := bytes.Repeat(unit, 500_000/period), bytes.Repeat(unit, 600_000/period)
		copy(target[250_000:], random(9, 100))
		assert.Less(t, size(t, base, target, streams(t, base, target)), 5000, "a period of %d", period)
	}
}

func TestCopiesAreAlwaysAsEncodeTakesThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := random(1, rapid.IntRange(0, 100_000).Draw(t, "base"))
		var target []byte
		for range rapid.IntRange(0, 20).Draw(t, "parts") {
			if rapid.Bool().Draw(t, "new") || len(base) == 0 {
				seed, size := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 5000).Draw(t, "size")
				target = append(target, random(seed, size)...)
				continue
			}
			from := rapid.IntRange(0, len(base)-1).Draw(t, "from")
			part := bytes.Clone(base[from:][:rapid.IntRange(0, len(base)-from).Draw(t, "size")])
			for i := range part {
				if i%rapid.SampledFrom([]int{1, 3, 40, 1000}).Draw(t, "change") == 7 {
					part[i]++
				}
				if i > 50 {
					break
				}
			}
			target = append(target, part...)
		}
		size(t, base, target, streams(t, base, target))
	})
}

// tree is a stream of files with 512 bytes before each, as in a tar.
func tree(files ...string) (stream []byte, list []match.File) {
	for i := 0; i < len(files); i += 2 {
		path, content := files[i], files[i+1]
		stream = append(stream, fmt.Sprintf("%-512s", path+fmt.Sprint(len(content)))...)
		list = append(list, match.File{
			Path: path, Offset: int64(len(stream)), Size: int64(len(content)), Digest: fmt.Sprintf("%x", content),
		})
		stream = append(stream, content...)
		stream = append(stream, make([]byte, -len(stream)&511)...)
	}
	return stream, list
}

func TestFilesOfTreesBelongTogether(t *testing.T) {
	text := func(seed uint64, size int) string { return string(random(seed, size)) }
	a, b, c, d := text(1, 50_000), text(2, 70_001), text(3, 3000), text(4, 100_000)
	base, old := tree("bin/a", a, "data/b", b, "empty", "", "lib/6.1.0-50/c.ko", c, "z", d)
	for name, tc := range map[string]struct {
		files []string
		most  int // bytes of the delta
	}{
		"the same":               {[]string{"bin/a", a, "data/b", b, "empty", "", "lib/6.1.0-50/c.ko", c, "z", d}, 60},
		"renamed":                {[]string{"c", c, "new/a", a, "x", d, "y", b}, 500},
		"twice":                  {[]string{"bin/a", a, "bin/b", a, "bin/c", a}, 300},
		"one more":               {[]string{"bin/a", a, "bin/b", text(9, 100), "data/b", b, "z", d}, 500},
		"changed in the middle":  {[]string{"bin/a", a[:9000] + "changed" + a[9000:], "z", d}, 400},
		"other numbers, changed": {[]string{"lib/6.1.0-57/c.ko", c[:500] + "!" + c[500:]}, 300},
		"in another file":        {[]string{"other", "new" + d + b}, 400},
		"contents exchanged":     {[]string{"bin/a", b, "data/b", a}, 400},
		"nothing":                {nil, 60},
	} {
		t.Run(name, func(t *testing.T) {
			target, now := tree(tc.files...)
			copies, err := match.Trees(t.Context(), bytes.NewReader(base), bytes.NewReader(target), old, now)
			require.NoError(t, err)
			assert.Less(t, size(t, base, target, copies), tc.most)
		})
	}
}

// TestSmallNewFileDoesNotTakeALookAtTheWholeBase is about trees of hundreds of GB.
func TestSmallNewFileDoesNotTakeALookAtTheWholeBase(t *testing.T) {
	base, old := tree("a", string(random(1, 500_000)))
	target, now := tree("a", string(random(1, 500_000)), "b", "new")
	reads := &counting{Reader: bytes.NewReader(base)}
	copies, err := match.Trees(t.Context(), reads, bytes.NewReader(target), old, now)
	require.NoError(t, err)
	assert.Equal(t, []delta.Copy{{Size: 500_512}}, copies)
	assert.Zero(t, reads.n)
}

type counting struct {
	*bytes.Reader
	n int
}

func (c *counting) ReadAt(p []byte, offset int64) (int, error) {
	c.n += len(p)
	return c.Reader.ReadAt(p, offset)
}

// safetensors is such a file of tensors: pairs of a name and content.
func safetensors(t require.TestingT, metadata string, tensors ...string) []byte {
	header := map[string]any{"__metadata__": map[string]string{"format": metadata}}
	var data []byte
	for i := 0; i < len(tensors); i += 2 {
		end := len(data) + len(tensors[i+1])
		header[tensors[i]] = map[string]any{
			"dtype": "BF16", "shape": []int{len(tensors[i+1]) / 2}, "data_offsets": []int{len(data), end},
		}
		data = append(data, tensors[i+1]...)
	}
	text, err := json.Marshal(header)
	require.NoError(t, err)
	return join(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
}

func TestTensorsBelongTogetherByName(t *testing.T) {
	a, b, c := synthetic.BF16(1, 200_000), synthetic.BF16(2, 300_000), synthetic.BF16(3, 100_000)
	step := func(data []byte) string { return string(synthetic.Step(9, data, 2, 0.3)) } // too much for the search
	base := safetensors(t, "pt", "a", string(a), "b", string(b), "c", string(c))
	target := safetensors(t, "pt, but longer", "c", step(c), "new", "xy", "a", step(a), "b", step(b)+"a row more")
	copies := streams(t, base, target)
	require.Len(t, copies, 3) // the header, c, and a and b as one
	assert.Less(t, size(t, base, target, copies), len(target)/8)

	// In a tree, likewise.
	first, old := tree("config.json", "{}", "model.safetensors", string(base))
	second, now := tree("config.json", "{ }", "model.safetensors", string(target))
	copies, err := match.Trees(t.Context(), bytes.NewReader(first), bytes.NewReader(second), old, now)
	require.NoError(t, err)
	assert.Less(t, size(t, first, second, copies), len(second)/8)
}

func TestHeaderThatIsNoneIsNotUsed(t *testing.T) {
	data := random(1, 100_000)
	file := func(header string) []byte {
		return join(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), []byte(header), data)
	}
	for name, base := range map[string][]byte{
		"a tensor twice":        file(`{"a":{"data_offsets":[0,10]},"a":{"data_offsets":[10,20]}}`),
		"overlapping":           file(`{"a":{"data_offsets":[0,10]},"b":{"data_offsets":[9,20]}}`),
		"beyond the end":        file(`{"a":{"data_offsets":[0,100001]}}`),
		"far beyond the end":    file(`{"a":{"data_offsets":[0,9223372036854775807]}}`),
		"before the beginning":  file(`{"a":{"data_offsets":[-1,10]}}`),
		"backward":              file(`{"a":{"data_offsets":[10,9]}}`),
		"one offset":            file(`{"a":{"data_offsets":[10]}}`),
		"no offsets":            file(`{"a":{}}`),
		"not a number":          file(`{"a":{"data_offsets":["x",9]}}`),
		"not an object":         file(`{"a":7}`),
		"without a name":        file(`{"":{"data_offsets":[0,10]}}`),
		"not JSON":              file(`{"a":`),
		"no metadata":           file(`{"__metadata__":3}`),
		"not a header":          data,
		"a header of 2^64-1":    join(bytes.Repeat([]byte{0xff}, 8), []byte("{}"), data),
		"a header of the file":  join(binary.LittleEndian.AppendUint64(nil, 100_001), []byte("{}"), data),
		"a header beyond 16 MB": join([]byte{1, 0, 0, 1, 0, 0, 0, 0}, []byte("{}"), make([]byte, 17<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			target := join(base[:5000], []byte("inserted"), base[5000:])
			assert.Less(t, size(t, base, target, streams(t, base, target)), 200)
		})
	}
}

func TestErrorsOfStreamsAndContextEndTheSearch(t *testing.T) {
	base, target := random(1, 1<<20), random(2, 1<<20)
	broken := errors.New("broken")
	_, err := match.Streams(t.Context(), failing{bytes.NewReader(base), broken}, bytes.NewReader(target))
	require.ErrorIs(t, err, broken)
	_, err = match.Streams(t.Context(), bytes.NewReader(base), failing{bytes.NewReader(target), broken})
	require.ErrorIs(t, err, broken)
	_, err = match.Streams(t.Context(), failing{bytes.NewReader(base), io.EOF}, bytes.NewReader(target))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = match.Streams(ctx, bytes.NewReader(base), bytes.NewReader(target))
	require.ErrorIs(t, err, context.Canceled)
}

// failing is a stream that can be read at its first bytes alone.
type failing struct {
	*bytes.Reader
	err error
}

func (f failing) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > 1000 {
		return 0, f.err
	}
	return f.Reader.ReadAt(p, offset)
}

func FuzzStreams(f *testing.F) {
	a := safetensors(f, "pt", "a", strings.Repeat("ab", 50), "b", "cd")
	f.Add(a, safetensors(f, "pt", "b", "cd", "a", strings.Repeat("ab", 50)))
	f.Add(random(1, 500), slices.Concat(random(1, 500)[100:], random(1, 500)))
	f.Fuzz(func(t *testing.T, base, target []byte) { size(t, base, target, streams(t, base, target)) })
}
