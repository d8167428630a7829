package shard_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

// withDeltas is a valid manifest of 25 bytes with deltas.
func withDeltas(deltas ...shard.Delta) shard.Manifest {
	return shard.Manifest{
		Name: "a", Size: 25, ShardSize: 10, Digest: shard.Digest{4}, Shards: []shard.Digest{{1}, {2}, {3}},
		Deltas: deltas,
	}
}

func TestAManifestNamesDeltas(t *testing.T) {
	m := withDeltas(shard.Delta{Base: 7, BaseDigest: shard.Digest{5}, Size: 12, Manifest: shard.Digest{6}},
		shard.Delta{Base: 5, BaseDigest: shard.Digest{7}, Size: 1, Manifest: shard.Digest{8}})
	encoded, err := m.Encode()
	require.NoError(t, err)
	assert.Contains(t, string(encoded), `"deltas": [
    {
      "base": "v7",
      "base_digest": "`+shard.Digest{5}.String()+`",
      "size": 12,
      "manifest": "`+shard.Digest{6}.String()+`"
    },`)
	again, err := shard.ParseManifest(bytes.NewReader(encoded))
	require.NoError(t, err)
	assert.True(t, again.Same(m))
	assert.Equal(t, m.Deltas, again.Deltas)
	again.Deltas = again.Deltas[:1]
	assert.False(t, again.Same(m))
}

func TestAManifestWithImpossibleDeltasIsRefused(t *testing.T) {
	good := shard.Delta{Base: 1, BaseDigest: shard.Digest{5}, Size: 12, Manifest: shard.Digest{6}}
	many := make([]shard.Delta, shard.MaxDeltas+1)
	for i := range many {
		many[i] = good
		many[i].Base = shard.Version(i + 1)
	}
	require.NoError(t, withDeltas(many[:shard.MaxDeltas]...).Validate())
	for name, change := range map[string]func(*shard.Delta){
		"no base":                   func(d *shard.Delta) { d.Base = 0 },
		"a base with 19 digits":     func(d *shard.Delta) { d.Base = shard.MaxVersion + 1 },
		"no bytes":                  func(d *shard.Delta) { d.Size = 0 },
		"as many as the version":    func(d *shard.Delta) { d.Size = 25 },
		"no digest of the base":     func(d *shard.Delta) { d.BaseDigest = shard.Digest{} },
		"no digest of the manifest": func(d *shard.Delta) { d.Manifest = shard.Digest{} },
	} {
		bad := good
		change(&bad)
		require.ErrorIs(t, withDeltas(bad).Validate(), shard.ErrManifest, name)
	}
	require.ErrorIs(t, withDeltas(good, good).Validate(), shard.ErrManifest, "two of one base")
	require.ErrorIs(t, withDeltas(many...).Validate(), shard.ErrManifest, "too many")

	one, err := withDeltas(good).Encode()
	require.NoError(t, err)
	for name, replace := range map[string][2]string{
		"no version":      {`"v1"`, `"../v1"`},
		"no text":         {`"v1"`, `1`},
		"no digest":       {`"base_digest": "` + shard.Digest{5}.String(), `"base_digest": "`},
		"a null":          {`"` + shard.Digest{6}.String() + `"`, `null`},
		"no array":        {`"deltas": [`, `"deltas": {"a": [`},
		"no whole number": {`"size": 12`, `"size": 1.5`},
	} {
		text := strings.Replace(string(one), replace[0], replace[1], 1)
		require.NotEqual(t, string(one), text, name)
		_, err := shard.ParseManifest(strings.NewReader(text))
		require.ErrorIs(t, err, shard.ErrManifest, name)
	}
	text := strings.Replace(string(one), "12", "12, \"more\": [{}]", 1)
	again, err := shard.ParseManifest(strings.NewReader(text))
	require.NoError(t, err, "of a later writer")
	assert.Equal(t, []shard.Delta{good}, again.Deltas)
}

func TestAnArrayOfDeltasEndsWhereItIsTooLong(t *testing.T) {
	line := shard.Delta{Base: 1, BaseDigest: shard.Digest{5}, Size: 12, Manifest: shard.Digest{6}}
	one, err := withDeltas(line).Encode()
	require.NoError(t, err)
	at := strings.Index(string(one), `"deltas": [`) + len(`"deltas": [`)
	element := `{"base": "v1"},`
	text := string(one[:at]) + strings.Repeat(element, shard.MaxDeltas) + "NEVER READ"
	_, err = shard.ParseManifest(strings.NewReader(text))
	require.ErrorContains(t, err, `"deltas"`)
	text = string(one[:at]) + strings.Repeat(element, shard.MaxDeltas+1) + "NEVER READ"
	_, err = shard.ParseManifest(strings.NewReader(text))
	require.ErrorContains(t, err, fmt.Sprintf("more than %d", shard.MaxDeltas))
}

// ofDelta is a valid manifest of a delta of 25 bytes.
func ofDelta() shard.DeltaManifest {
	return shard.DeltaManifest{
		Format: shard.DeltaFormat, BaseDigest: shard.Digest{8}, TargetDigest: shard.Digest{9},
		Size: 25, ShardSize: 10, Digest: shard.Digest{4}, Shards: []shard.Digest{{1}, {2}, {3}},
	}
}

func TestADeltasManifestParsesBack(t *testing.T) {
	m := ofDelta()
	encoded, err := m.Encode()
	require.NoError(t, err)
	again, err := shard.ParseDeltaManifest(bytes.NewReader(encoded))
	require.NoError(t, err)
	assert.Equal(t, m, again)
	assert.Equal(t, shard.Shard{Number: 3, Offset: 20, Size: 5, Digest: shard.Digest{3}}, m.Content().Shard(3))

	content, err := shard.ParseManifest(bytes.NewReader(encoded))
	require.NoError(t, err)
	assert.True(t, content.Same(m.Content()), "what carries versions carries deltas")
}

func TestADeltasManifestThatContradictsItselfIsRefused(t *testing.T) {
	for name, change := range map[string]func(*shard.DeltaManifest){
		"no format":             func(m *shard.DeltaManifest) { m.Format = "" },
		"a long format":         func(m *shard.DeltaManifest) { m.Format = strings.Repeat("a", 65) },
		"a format of two lines": func(m *shard.DeltaManifest) { m.Format = "a\nb" },
		"no base":               func(m *shard.DeltaManifest) { m.BaseDigest = shard.Digest{} },
		"no target":             func(m *shard.DeltaManifest) { m.TargetDigest = shard.Digest{} },
		"no bytes":              func(m *shard.DeltaManifest) { m.Size, m.Shards = 0, nil },
		"too few shards":        func(m *shard.DeltaManifest) { m.Shards = m.Shards[:2] },
		"no digest of a shard":  func(m *shard.DeltaManifest) { m.Shards[1] = shard.Digest{} },
	} {
		m := ofDelta()
		change(&m)
		require.ErrorIs(t, m.Validate(), shard.ErrManifest, name)
		_, err := m.Encode()
		require.ErrorIs(t, err, shard.ErrManifest, name)
	}
	_, err := shard.ParseDeltaManifest(strings.NewReader(`{"format": "shardcast delta 1"`))
	require.ErrorIs(t, err, shard.ErrManifest)
}

func TestADeltaHasADirectoryByItsBase(t *testing.T) {
	assert.Equal(t, "from_v12", shard.DeltaName(12))
	base, err := shard.ParseDeltaName("from_v12")
	require.NoError(t, err)
	assert.Equal(t, shard.Version(12), base)
	for _, bad := range []string{"from_", "from_v", "from_v0", "from_v01", "from_12", "v12", "", "from_v1/.."} {
		_, err := shard.ParseDeltaName(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParseDeltaManifest(f *testing.F) {
	encoded, err := ofDelta().Encode()
	require.NoError(f, err)
	f.Add(encoded)
	f.Add(bytes.Replace(encoded, []byte(`"size": 25`), []byte(`"size": -1`), 1))
	f.Add([]byte(`{"format": "\ud800", "shards": null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := shard.ParseDeltaManifest(bytes.NewReader(body))
		if err != nil {
			require.ErrorIs(t, err, shard.ErrManifest)
			return
		}
		encoded, err := m.Encode()
		require.NoError(t, err)
		again, err := shard.ParseDeltaManifest(bytes.NewReader(encoded))
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}
