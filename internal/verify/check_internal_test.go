package verify

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

var senders = []string{"A", "B", "C"}

// own is compared with a table of the sender of each byte.
func TestOwnKnowsTheSenderOfEachByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		c := newCheck(shard.Shard{Number: 1, Size: size}, bytes.NewReader(nil), 0, true)
		c.alone = true
		var table [size]string
		for range rapid.IntRange(0, 30).Draw(t, "writes") {
			from := rapid.Int64Range(0, size-1).Draw(t, "from")
			to := rapid.Int64Range(from+1, size).Draw(t, "to")
			name := rapid.SampledFrom(senders).Draw(t, "sender")
			c.own(owner{disk.Range{From: from, To: to}, Sender{name, rapid.Bool().Draw(t, "relayed")}})
			for i := from; i < to; i++ {
				table[i] = name
			}
			var got [size]string
			for _, o := range c.owners {
				require.Less(t, o.r.From, o.r.To, "an empty range")
				for i := o.r.From; i < o.r.To; i++ {
					require.Empty(t, got[i], "byte %d has two owners", i)
					got[i] = o.sender.Name
				}
			}
			require.Equal(t, table, got)
			sent := make(map[string]bool)
			fetched := int64(0)
			for _, name := range table {
				if name != "" {
					sent[name] = true
					fetched++
				}
			}
			require.Len(t, c.Senders(), len(sent))
			require.Equal(t, fetched, c.Fetched())
			upTo := rapid.Int64Range(0, size).Draw(t, "up to")
			for _, name := range senders {
				other := slices.ContainsFunc(table[:upTo], func(o string) bool { return o != "" && o != name })
				require.Equal(t, !other, c.SentBy(name, upTo))
			}
		}
	})
}

func TestOwnKeepsOneRangeForBytesThatComeInOrder(t *testing.T) {
	for _, alone := range []bool{false, true} {
		c := &Check{alone: alone}
		a, b := Sender{"A", alone}, Sender{"B", false}
		for i := range int64(50) {
			c.own(owner{disk.Range{From: i, To: i + 1}, a})
			c.own(owner{disk.Range{From: 100 + i, To: 101 + i}, b})
		}
		assert.Equal(t, []owner{{disk.Range{To: 50}, a}, {disk.Range{From: 100, To: 150}, b}}, c.owners)
	}
}

func TestCompareFindsTheServersWhoseBytesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 30
		old := rapid.SliceOfN(rapid.ByteRange(0, 1), size, size).Draw(t, "old")
		c := newCheck(shard.Shard{Number: 1, Size: size}, bytes.NewReader(old), 0, true)
		var table [size]string // the sender of each byte, if it could know that it was right
		for i := 0; i < size; {
			to := rapid.IntRange(i+1, size).Draw(t, "to")
			if name := rapid.SampledFrom(append([]string{""}, senders...)).Draw(t, "sender"); name != "" {
				relayed := rapid.Bool().Draw(t, "relayed")
				c.own(owner{disk.Range{From: int64(i), To: int64(to)}, Sender{name, relayed}})
				for j := i; j < to && !relayed; j++ {
					table[j] = name
				}
			}
			i = to
		}
		from := rapid.IntRange(0, size-1).Draw(t, "from")
		to := rapid.IntRange(from+1, size).Draw(t, "to")
		data := rapid.SliceOfN(rapid.ByteRange(0, 1), to-from, to-from).Draw(t, "new")
		require.NoError(t, c.Compare(int64(from), data))
		require.Empty(t, c.differs, "nothing is written twice before the shard was wrong")
		c.alone = true
		want := make(map[string]bool)
		for i := from; i < to; i++ {
			if table[i] != "" && old[i] != data[i-from] {
				want[table[i]] = true
			}
		}
		require.NoError(t, c.Compare(int64(from), data))
		got := make(map[string]bool)
		for _, name := range c.differs {
			require.False(t, got[name], "named twice")
			got[name] = true
		}
		assert.Equal(t, want, got)
	})
}
