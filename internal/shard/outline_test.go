package shard_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/shard"
)

// outline is of three shards.
func outline() shard.Outline {
	return shard.Outline{
		Version: 6, ID: shard.Digest{1, 2, 3}, Name: "weights.safetensors",
		Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Size: 25, ShardSize: 10,
	}
}

func TestOutlineIsTheLineThatTheFormatSays(t *testing.T) {
	line, err := outline().Encode()
	require.NoError(t, err)
	assert.Equal(t, `{"version":"v6","id":"010203`+strings.Repeat("0", 58)+
		`","name":"weights.safetensors","date":"2026-01-31T12:00:00Z","size":25,"shard_size":10}`+"\n", string(line))
	for want, known := range map[string]shard.Known{
		`{"shard":3,"digest":"` + abc + `"}`: {Shard: 3, Digest: must(shard.ParseDigest(abc))},
		`{"digest":"` + abc + `"}`:           {Digest: must(shard.ParseDigest(abc))},
	} {
		line, err := known.Encode()
		require.NoError(t, err)
		assert.Equal(t, want+"\n", string(line))
		got, err := shard.ParseKnown(line, 3)
		require.NoError(t, err)
		assert.Equal(t, known, got)
	}
}

func must(d shard.Digest, err error) shard.Digest {
	if err != nil {
		panic(err)
	}
	return d
}

func TestOutlineParsesBackToAnEqualOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyManifest().Draw(t, "manifest")
		o := shard.Outline{
			Version: shard.Version(rapid.Uint64Range(1, uint64(shard.MaxVersion)).Draw(t, "version")),
			ID:      anyDigest().Draw(t, "id"), Name: m.Name, Date: m.Date, Size: m.Size, ShardSize: m.ShardSize,
		}
		line, err := o.Encode()
		require.NoError(t, err)
		require.LessOrEqual(t, len(line), shard.MaxOutlineLine)
		require.Equal(t, len(line)-1, bytes.IndexByte(line, '\n'), "one line")
		got, err := shard.ParseOutline(line)
		require.NoError(t, err)
		require.True(t, o.Date.Equal(got.Date))
		got.Date = o.Date
		require.Equal(t, o, got)
		require.Len(t, got.Manifest().Shards, len(m.Shards))
	})
}

func TestOutlineThatIsNone(t *testing.T) {
	line, err := outline().Encode()
	require.NoError(t, err)
	good := strings.TrimSuffix(string(line), "\n")
	_, err = shard.ParseOutline([]byte(strings.Replace(good, `"size"`, `"more":1,"size"`, 1)))
	require.NoError(t, err, "later writers may add members")
	for name, change := range map[string][2]string{
		"no JSON":                    {"{", ""},
		"cut short":                  {"}", ""},
		"something after it":         {"}", "} {}"},
		"no version":                 {"version", "Version"},
		"a version that is none":     {`"v6"`, `"v06"`},
		"a version that is a path":   {`"v6"`, `"../v6"`},
		"a version that is a number": {`"v6"`, `6`},
		"no id":                      {`"id"`, `"ID"`},
		"an id of zeros":             {"010203", "000000"},
		"an id that is short":        {"010203", "01020"},
		"an id in capitals":          {"010203", "01020A"},
		"a negative size":            {`"size":25`, `"size":-1`},
		"shards of nothing":          {`"shard_size":10`, `"shard_size":0`},
		"too many shards":            {`"size":25`, `"size":9223372036854775807`},
		"a long name":                {"weights", strings.Repeat("x", 255)},
		"a date that is none":        {"2026-01-31", "2026-02-31"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			require.NotEqual(t, good, bad)
			_, err := shard.ParseOutline([]byte(bad))
			require.ErrorIs(t, err, shard.ErrOutline)
		})
	}
}

func TestOutlineThatNobodyCouldReadIsNotWritten(t *testing.T) {
	for name, spoil := range map[string]func(o *shard.Outline){
		"no version":      func(o *shard.Outline) { o.Version = 0 },
		"no such version": func(o *shard.Outline) { o.Version = shard.MaxVersion + 1 },
		"no id":           func(o *shard.Outline) { o.ID = shard.Digest{} },
		"no shard size":   func(o *shard.Outline) { o.ShardSize = 0 },
		"too many shards": func(o *shard.Outline) { o.Size = math.MaxInt64 },
		"no UTF-8":        func(o *shard.Outline) { o.Name = "\xff" },
		"no date":         func(o *shard.Outline) { o.Date = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		t.Run(name, func(t *testing.T) {
			o := outline()
			spoil(&o)
			_, err := o.Encode()
			require.ErrorIs(t, err, shard.ErrOutline)
		})
	}
}

func TestKnownThatIsNone(t *testing.T) {
	for name, line := range map[string]string{
		"nothing":                  ``,
		"no object":                `[]`,
		"half a line":              `{"shard":3,"digest":"` + abc[:40],
		"two in one":               `{"shard":1,"digest":"` + abc + `"}{"shard":2,"digest":"` + abc + `"}`,
		"no digest":                `{"shard":1}`,
		"a digest of zeros":        `{"shard":1,"digest":"` + strings.Repeat("0", 64) + `"}`,
		"no digest for a null":     `{"shard":1,"digest":null}`,
		"shard 0":                  `{"shard":0,"digest":"` + abc + `"}`,
		"a null is not the file's": `{"shard":null,"digest":"` + abc + `"}`,
		"a negative shard":         `{"shard":-1,"digest":"` + abc + `"}`,
		"a shard too many":         `{"shard":4,"digest":"` + abc + `"}`,
		"a shard and a half":       `{"shard":1.5,"digest":"` + abc + `"}`,
		"a shard in capitals":      `{"Shard":1,"Digest":"` + abc + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shard.ParseKnown([]byte(line), 3)
			require.ErrorIs(t, err, shard.ErrOutline)
		})
	}
}

func FuzzParseOutline(f *testing.F) {
	line, err := outline().Encode()
	require.NoError(f, err)
	f.Add(line)
	f.Add([]byte(`{"version":"v1","id":null,"size":9223372036854775807,"shard_size":140737488355328}`))
	f.Add([]byte(`{"shard":3,"digest":"` + abc + `"}`))
	f.Add([]byte(`{"shard":null,"digest":"` + abc + `"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if o, err := shard.ParseOutline(line); err == nil {
			encoded, err := o.Encode()
			require.NoError(t, err)
			again, err := shard.ParseOutline(encoded)
			require.NoError(t, err)
			require.True(t, o.Date.Equal(again.Date))
			again.Date = o.Date
			require.Equal(t, o, again)
		} else {
			require.ErrorIs(t, err, shard.ErrOutline)
		}
		if k, err := shard.ParseKnown(line, 3); err == nil {
			encoded, err := k.Encode()
			require.NoError(t, err)
			again, err := shard.ParseKnown(encoded, 3)
			require.NoError(t, err)
			require.Equal(t, k, again)
		} else {
			require.ErrorIs(t, err, shard.ErrOutline)
		}
	})
}
