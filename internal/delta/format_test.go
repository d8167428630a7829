package delta_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

var update = flag.Bool("update", false, "write the golden files")

// TestExampleIsToTheByteAsDocumented reads the example of the package comment.
func TestExampleIsToTheByteAsDocumented(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	_, text, found := bytes.Cut(text, []byte("# Example"))
	require.True(t, found)
	var documented []byte
	for _, m := range regexp.MustCompile(`(?m)^//\t((?:[0-9a-f]{2} )+) `).FindAllSubmatch(text, -1) {
		line, err := hex.DecodeString(strings.ReplaceAll(string(m[1]), " ", ""))
		require.NoError(t, err)
		documented = append(documented, line...)
	}
	copies := []delta.Copy{{Size: 8}}
	assert.Equal(t, documented, encode(t, []byte("abcdefgh"), []byte("abddefgh!"), copies))
	target, err := apply([]byte("abcdefgh"), documented, 9)
	require.NoError(t, err)
	assert.Equal(t, "abddefgh!", string(target))
}

// goldenPairs have deltas in testdata, which this and all later versions must read.
func goldenPairs() map[string]func() (base, target []byte, copies []delta.Copy) {
	return map[string]func() (base, target []byte, copies []delta.Copy){
		"weights": func() (base, target []byte, copies []delta.Copy) { // gaps and planes by entropy
			base = synthetic.BF16(1, 100_000)
			return base, synthetic.Step(2, base, 2, 0.02), identity(len(base))
		},
		"moved": func() (base, target []byte, copies []delta.Copy) { // runs, pieces, literals; zstd
			r := rand.New(rand.NewPCG(1, 1))
			base = random(r, 3*delta.BlockSize)
			target = append(target, base[1000:][:2*delta.BlockSize+10]...)
			target = append(target, strings.Repeat("something new, ", 100)...)
			target = append(target, base[:5000]...)
			for i := len(target) - 4000; i < len(target); i += 400 {
				target[i]++
			}
			n := int64(2*delta.BlockSize + 10)
			return base, target, []delta.Copy{{Base: 1000, Size: n}, {Offset: n + 1500, Size: 5000}}
		},
		"wide": func() (base, target []byte, copies []delta.Copy) { // lanes of 4 bytes
			r := rand.New(rand.NewPCG(2, 2))
			base = random(r, 40_000)
			target = bytes.Clone(base)
			for i := 100; i < 40_000; i += 4 * (1 + r.IntN(60)) {
				copy(target[i:], random(r, 4))
			}
			return base, target, identity(len(base))
		},
		"bytes": func() (base, target []byte, copies []delta.Copy) { // lanes of 1 byte
			base = synthetic.FP8(1, 60_001)
			return base, synthetic.Step(2, base, 1, 0.02), identity(len(base))
		},
		"empty": func() (base, target []byte, copies []delta.Copy) { return []byte("base"), nil, nil },
	}
}

func TestGoldenDeltasAreRead(t *testing.T) {
	for name, pair := range goldenPairs() {
		t.Run(name, func(t *testing.T) {
			base, target, copies := pair()
			path := filepath.Join("testdata", name+".delta")
			if *update {
				require.NoError(t, os.WriteFile(path, encode(t, base, target, copies), 0o644))
			}
			encoded, err := os.ReadFile(path)
			require.NoError(t, err)
			got, err := apply(base, encoded, len(target))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(target, got))
		})
	}
}

// TestAnotherProgramAppliesTheSameDeltas holds the package comment against a decoder that was written from it.
func TestAnotherProgramAppliesTheSameDeltas(t *testing.T) {
	for _, program := range []string{"python3", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	for name, pair := range goldenPairs() {
		t.Run(name, func(t *testing.T) {
			base, target, _ := pair()
			path := filepath.Join(t.TempDir(), "base")
			require.NoError(t, os.WriteFile(path, base, 0o600))
			encoded := filepath.Join("testdata", name+".delta")
			program := exec.CommandContext(t.Context(), "python3", "testdata/decode.py", encoded, path)
			program.Stderr = os.Stderr
			got, err := program.Output()
			require.NoError(t, err)
			require.True(t, bytes.Equal(target, got))
		})
	}
}

func TestDeltaThatEndsTooSoonIsRefused(t *testing.T) {
	base := synthetic.BF16(1, 5000)
	encoded := encode(t, base, synthetic.Step(2, base, 2, 0.05), identity(len(base)))
	for n := range encoded {
		_, err := apply(base, encoded[:n], len(base))
		require.ErrorIs(t, err, delta.ErrFormat, "the first %d bytes", n)
	}
	_, err := apply(base, append(encoded, 0), len(base))
	require.ErrorIs(t, err, delta.ErrFormat, "one byte more")
}

// header is that of a delta from 1,000 to 2,000 bytes.
const header = "shardcast delta 1\n\xe8\x07\xd0\x0f"

func TestWrongDeltaIsRefused(t *testing.T) {
	zeros := func(n int) string {
		e, err := zstd.NewWriter(nil)
		require.NoError(t, err)
		zeros := e.EncodeAll(make([]byte, n), nil)
		require.NoError(t, e.Close())
		return string(zeros)
	}
	unsized := func(n int) string {
		var b bytes.Buffer
		e, err := zstd.NewWriter(&b, zstd.WithWindowSize(delta.BlockSize))
		require.NoError(t, err)
		_, err = e.Write(make([]byte, n))
		require.NoError(t, err)
		require.NoError(t, e.Close())
		return b.String()
	}
	section := func(size, method int, content string) string {
		head := uvarint(uint64(size)<<2 | uint64(method))
		if method >= 2 {
			head += uvarint(uint64(len(content)))
		}
		return head + content
	}
	block := func(parts ...string) string {
		body := strings.Join(parts, "")
		return header + uvarint(uint64(len(body))) + body
	}
	data, whole := strings.Repeat("x", 1000), section(2000, 1, "x")
	for _, tc := range []struct{ name, reason, encoded string }{
		{"nothing", "it ends too soon", ""},
		{"another text", "it does not begin as a delta does", "shardcast delta 2\n\x00\x00"},
		{"a size beyond 2^61", "a stream of more than 2^61 bytes", "shardcast delta 1\n\x00" + uvarint(1<<61+1)},
		{
			"a size beyond 64 bits", "a number is too large",
			"shardcast delta 1\n\x00" + strings.Repeat("\xff", 9) + "\x02",
		},
		{"an endless size", "a number is too large", "shardcast delta 1\n\x00" + strings.Repeat("\x80", 100)},
		{
			"a size of 80 in two bytes", "a number takes more bytes than it needs",
			"shardcast delta 1\n\xd0\x0f\xd0\x00\x01\x00",
		},
		{
			"no change, in two bytes", "a number takes more bytes than it needs",
			block("\x01\x00\x80\x00\x00", whole, "\x00\x00"),
		},
		{
			"a shift of 0 in two bytes", "a number takes more bytes than it needs",
			block("\x01\x01\x00", section(5, 0, "\x00\xd0\x0f\x80\x00"), "\x00\x00\x00"),
		},
		{
			"a body beyond a block", "a block takes 1048641 bytes, more than 1048640",
			header + uvarint(delta.BlockSize+65),
		},
		{"a run of none", "a run of 0 blocks", header + "\x00\x00\x00"},
		{
			"a run of 2^64-1", "a run of 18446744073709551615 blocks",
			header + "\x00" + uvarint(math.MaxUint64) + "\x00",
		},
		{
			"a run beyond the target", "a run of blocks goes beyond the end of the target",
			"shardcast delta 1\n\xd0\x0f\xd0\x0f\x00\x02\x00",
		},
		{"a run beyond the base", "it is said to be equal to bytes beyond the base", header + "\x00\x01\x00"},
		{
			"a run before the base", "it is said to be equal to bytes beyond the base",
			"shardcast delta 1\n\xd0\x0f\xd0\x0f\x00\x01\x01",
		},
		{
			"a run at 2^63", "it is said to be equal to bytes beyond the base",
			header + "\x00\x01" + uvarint(math.MaxUint64-1),
		},
		{"lanes of 3", "lanes of 3 bytes", block("\x03\x00\x00\x00", whole, "\x00\x00\x00\x00")},
		{"too many pieces", "too many pieces", block("\x01", uvarint(32_769), "\x00\x00", whole, "\x00\x00")},
		{"too few pieces", "a number that ends too late", block("\x01\x01\x00\x00", whole, "\x00\x00")},
		{
			"an empty piece", "a piece goes beyond its block",
			block("\x01\x01\x00", section(3, 0, "\x00\x00\x00"), whole, "\x00\x00"),
		},
		{
			"a piece beyond the block", "a piece goes beyond its block",
			block("\x01\x01\x00", section(4, 0, "\x00\xd1\x0f\x00"), "\x00\x00\x00"),
		},
		{
			"a piece beyond the base", "a piece goes beyond the base",
			block("\x01\x01\x00", section(4, 0, "\x00\xe9\x07\x00"), section(999, 1, "x"), "\x00\x00"),
		},
		{
			"a piece before the base", "a piece goes beyond the base",
			block("\x01\x01\x00", section(4, 0, "\x00\xe8\x07\x01"), section(1000, 1, "x"), "\x00\x00"),
		},
		{
			"a piece at 2^63", "a piece goes beyond the base",
			block("\x01\x01\x00", section(13, 0, "\x00\xe8\x07"+uvarint(math.MaxUint64-1)), section(1000, 1, "x"),
				"\x00\x00"),
		},
		{
			"pieces left over", "a section of 4 bytes where 0 are the most",
			block("\x01\x00\x00", section(4, 0, "\x00\xe8\x07\x00"), whole, "\x00\x00"),
		},
		{
			"few literals", "the bytes of the block are not as many as it has",
			block("\x01\x00\x00\x00", section(1999, 1, "x"), "\x00\x00"),
		},
		{
			"many literals", "a section of 2001 bytes where 2000 are the most",
			block("\x01\x00\x00\x00", section(2001, 1, "x"), "\x00\x00"),
		},
		{
			"endless literals", "a section of 1099511627776 bytes where 2000 are the most",
			block("\x01\x00\x00\x00", section(1<<40, 1, "x"), "\x00\x00"),
		},
		{"stored beyond", "a section goes beyond its block", block("\x01\x00\x00\x00", section(2000, 0, data))},
		{
			"coded beyond", "a section goes beyond its block",
			block("\x01\x00\x00\x00", uvarint(2000<<2|3), uvarint(1<<50), data),
		},
		{"a bomb", "window size exceeded", block("\x01\x00\x00\x00", section(2000, 3, zeros(1<<30>>6)), "\x00\x00")},
		{
			"a bomb of unknown size", "decompressed size exceeds",
			block("\x01\x00\x00\x00", section(2000, 3, unsized(16<<20)), "\x00\x00"),
		},
		{
			"less than stated", "a section has 1999 bytes and not 2000",
			block("\x01\x00\x00\x00", section(2000, 3, zeros(1999)), "\x00\x00"),
		},
		{
			"no zstd", "invalid input: magic number mismatch",
			block("\x01\x00\x00\x00", section(2000, 3, data), "\x00\x00"),
		},
		{
			"no entropy", "output size (2048) > DecompressLimit (2001)",
			block("\x01\x00\x00\x00", section(2000, 2, data), "\x00\x00"),
		},
		{"more changes", "more changes than lanes", block("\x01\x00\x01\x00", whole, "\x04\x00\x04\x00")},
		{"change beyond", "a change is beyond the last lane", change(block, "\x01", "\x04\xfe\x04\x00")},
		{
			"long gap", "a section of 5 bytes where 1 are the most",
			change(block, "\x01", section(5, 1, "\xff")+"\x04\x00"),
		},
		{"a gap that goes on", "the gaps end too soon", change(block, "\x01", "\x04\xff\x04\x00")},
		{"too few gaps", "the gaps end too soon", change(block, "\x02", "\x04\x00\x08\x00\x00")},
		{"too many gaps", "a section of 2 bytes where 1 are the most", change(block, "\x01", "\x08\x00\x00\x04\x00")},
		{
			"too few values", "the values are not as many as the changes",
			change(block, "\x02", "\x08\x00\x00\x04\x00"),
		},
		{"goes on", "a block goes on after its last section", block("\x01\x00\x00\x00", whole, "\x00\x00\x00")},
		{"empty body", "a number that ends too late", header + "\x01\x01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base := make([]byte, 1000)
			if strings.Contains(tc.encoded, "\xd0\x0f\xd0\x0f") {
				base = make([]byte, 2000)
			}
			_, err := apply(base, []byte(tc.encoded), 1<<62)
			require.ErrorIs(t, err, delta.ErrFormat)
			require.ErrorContains(t, err, tc.reason)
		})
	}
	// The parts that these are made of make a right one, too.
	target, err := apply(make([]byte, 1000), []byte(change(block, "\x01", "\x04\xc8\x04\x00")), 2000)
	require.NoError(t, err)
	assert.Equal(t, byte(0xff), target[200], "one less than 0")
}

// change is a block of 250 predicted bytes in lanes of 1, so many of which change, and of 1,750 others.
func change(block func(parts ...string) string, changes, rest string) string {
	return block("\x01\x01", changes, "\x10\x00\xfa\x01\x00", uvarint(1750<<2|1)+"x", rest)
}

func uvarint(v uint64) string {
	var b []byte
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return string(append(b, byte(v)))
}

func TestErrorsOfOthersAreNotTheFormats(t *testing.T) {
	base := random(rand.New(rand.NewPCG(1, 1)), 3*delta.BlockSize)
	target := bytes.Clone(base)
	target[0]++
	encoded := encode(t, base, target, identity(len(base)))
	broken := errors.New("broken")

	_, err := delta.NewReader(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, delta.ErrFormat)

	d, err := delta.NewReader(io.MultiReader(bytes.NewReader(encoded[:len(encoded)-1]), iotest.ErrReader(broken)))
	require.NoError(t, err)
	err = d.Apply(t.Context(), bytes.NewReader(base), nowhere{}, delta.Progress{})
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, delta.ErrFormat)

	for _, size := range []int{0, 10, 3*delta.BlockSize - 1} {
		d, err = delta.NewReader(bytes.NewReader(encoded))
		require.NoError(t, err)
		err = d.Apply(t.Context(), bytes.NewReader(base[:size]), nowhere{}, delta.Progress{})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a base of %d bytes", size)
		require.NotErrorIs(t, err, delta.ErrFormat)
	}

	d, err = delta.NewReader(bytes.NewReader(encoded))
	require.NoError(t, err)
	full := &place{data: make([]byte, 2*delta.BlockSize), seen: map[int64]bool{}}
	require.ErrorContains(t, d.Apply(t.Context(), bytes.NewReader(base), full, delta.Progress{}), "target: a test")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	d, err = delta.NewReader(bytes.NewReader(encoded))
	require.NoError(t, err)
	require.ErrorIs(t, d.Apply(ctx, bytes.NewReader(base), nowhere{}, delta.Progress{}), broken)
	_, err = delta.Encode(ctx, io.Discard, bytes.NewReader(base), bytes.NewReader(target), nil)
	require.ErrorIs(t, err, broken)
	_, err = delta.Encode(t.Context(), limited{}, bytes.NewReader(base), bytes.NewReader(target), nil)
	require.ErrorIs(t, err, errLimit)
}

var errLimit = errors.New("a test: too much")

type limited struct{}

func (limited) Write([]byte) (int, error) { return 0, errLimit }

func FuzzApply(f *testing.F) {
	base := synthetic.BF16(1, 2000)
	f.Add([]byte(header))
	f.Add([]byte("shardcast delta 1\n\xd0\x0f\xd0\x0f\x00\x01\x00"))
	f.Add(encode(f, base, synthetic.Step(2, base, 2, 0.05), identity(len(base))))
	f.Add(encode(f, base, synthetic.Step(2, base, 1, 0.3), identity(len(base))))
	f.Add(encode(f, base, append([]byte(strings.Repeat("new ", 100)), base[500:]...), []delta.Copy{
		{Offset: 400, Base: 500, Size: 700}, {Offset: 1200, Base: 500, Size: 300},
	}))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		got, err := apply(base, encoded, 4<<20)
		if err == nil {
			again, err := apply(base, encoded, len(got))
			require.NoError(t, err)
			require.True(t, bytes.Equal(got, again), "each byte is written")
		}
		seen, failed := readTarget(bytes.NewReader(base), encoded, 4<<20)
		require.Equal(t, err == nil, failed == nil, "%v, %v", err, failed)
		if err == nil {
			require.True(t, bytes.Equal(got, seen), "a target is read as it is written")
		}
	})
}
