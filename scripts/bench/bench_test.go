//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/scripts/internal/machine"
)

// tableOf makes a table of the times of tools.
func tableOf(key Metric, ours, other, part []float64) *Table {
	slow := 100.0
	if key.moreIsBetter() {
		slow = 0.01
	}
	return &Table{Name: "t", Title: "a title", Key: key, Limit: "limit", Rows: []*Row{
		{"ours", Ours, map[Metric][]float64{key: ours}},
		{"slow", Other, map[Metric][]float64{key: {slow, slow, slow}}},
		{"other", Other, map[Metric][]float64{key: other}},
		{"limit", Part, map[Metric][]float64{key: part}},
	}}
}

func TestRatioIsToTheBestThatDoesTheSameWork(t *testing.T) {
	table := tableOf(Wall, []float64{3, 1, 2}, []float64{4, 4, 5}, []float64{1, 1, 1})
	assert.Equal(t, "other", table.best().Tool, "neither the slow one nor one that does less")
	assert.InDelta(t, 0.5, table.ratio(table.row("ours"), table.best()), 1e-9)
	assert.InDelta(t, 2.0, table.ratio(table.row("ours"), table.row("limit")), 1e-9)
	assert.Zero(t, table.ratio(table.row("ours"), table.row("missing")))
}

func TestRatioIsOfCosts(t *testing.T) {
	table := tableOf(CPURate, []float64{50}, []float64{200}, []float64{400})
	assert.Equal(t, "other", table.best().Tool, "the most bytes per CPU second")
	ratio := table.ratio(table.row("ours"), table.best())
	assert.InDelta(t, 4.0, ratio, 1e-9, "a quarter of the throughput costs four times as much")
}

func TestWorseBy(t *testing.T) {
	before := []float64{1.0, 1.1, 1.2}
	for name, tc := range map[string]struct {
		metric Metric
		now    []float64
		want   float64
	}{
		"the same":                    {Wall, before, 0},
		"slower":                      {Wall, []float64{2.1, 2.2, 2.3}, 1},
		"slower, but ranges overlap":  {Wall, []float64{1.15, 2.2, 2.3}, 0},
		"slower, but by little":       {Wall, []float64{1.201, 1.202, 1.203}, 0},
		"faster":                      {Wall, []float64{0.1, 0.2, 0.3}, 0},
		"less throughput":             {Rate, []float64{0.5, 0.55, 0.6}, 1},
		"more throughput":             {Rate, []float64{2, 3, 4}, 0},
		"more throughput in one only": {Rate, []float64{0.5, 0.55, 1.3}, 0},
		"nothing":                     {Wall, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			assert.InDelta(t, tc.want, worseBy(tc.metric, before, tc.now, noise), 1e-9)
		})
	}
}

func TestCheck(t *testing.T) {
	this, slower := machine.Machine{CPU: "a", Cores: 2}, machine.Machine{CPU: "b"}
	report := func(m machine.Machine, ours, others []float64) *Report {
		return &Report{Machine: m, Tables: []*Table{tableOf(Wall, ours, []float64{9, 9, 9}, others)}}
	}
	before := report(this, []float64{1, 1, 1.1}, []float64{1, 1, 1})
	for name, tc := range map[string]struct {
		now   *Report
		worse int
	}{
		"the same":                        {before, 0},
		"ours is slower":                  {report(this, []float64{2, 2, 2}, []float64{1, 1, 1}), 1},
		"all of the machine is slower":    {report(this, []float64{2, 2, 2}, []float64{2, 2, 2}), 0},
		"the other is faster, ours not":   {report(this, []float64{1, 1, 1}, []float64{0.5, 0.5, 0.5}), 0},
		"a slower machine":                {report(slower, []float64{2, 2, 2}, []float64{2, 2, 2}), 0},
		"a slower machine, and ours more": {report(slower, []float64{4, 4, 4}, []float64{2, 2, 2}), 1},
	} {
		t.Run(name, func(t *testing.T) {
			worse, _ := worseThan(before, tc.now)
			assert.Len(t, worse, tc.worse)
		})
	}
}

func TestCheckNamesTablesThatItCannotCompare(t *testing.T) {
	before := &Report{Tables: []*Table{tableOf(Wall, []float64{1}, nil, nil)}}
	now := &Report{Tables: []*Table{tableOf(Wall, []float64{9}, nil, nil)}}
	now.Tables[0].Title = "of another size"
	worse, skipped := worseThan(before, now)
	assert.Empty(t, worse)
	assert.Len(t, skipped, 1)
}

func TestReportIsWrittenAndRead(t *testing.T) {
	dir := t.TempDir()
	table := tableOf(CPURate, []float64{5, 4, 6}, []float64{4, 4, 4}, []float64{7, 7, 7})
	r := &Report{Date: "2026-01-02", Rounds: 3, Tables: []*Table{table}}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2025-12-31.json"), []byte(`{"date":"2025-12-31"}`), 0o600))
	require.NoError(t, r.write(dir))
	got, err := readReport(dir)
	require.NoError(t, err)
	assert.Equal(t, r, got, "the newest")

	text, err := os.ReadFile(filepath.Join(dir, "2026-01-02.md"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "| **ours** | 5 (4 to 6) | 0.80 | 1.40 |")
}

func TestMissingAndBadReportsAreErrors(t *testing.T) {
	_, err := readReport(t.TempDir())
	require.ErrorContains(t, err, "there is no report")
	name := filepath.Join(t.TempDir(), "bad.json")
	require.NoError(t, os.WriteFile(name, []byte("{"), 0o600))
	_, err = readReport(name)
	var syntax *json.SyntaxError
	require.ErrorAs(t, err, &syntax)
}

func TestBaseCommandsAreComparedWithTheOthers(t *testing.T) {
	table := tableOf(Wall, []float64{2, 2, 2}, []float64{4, 4, 4}, []float64{1, 1, 1})
	base := &Row{baseOf + "ours", Ours, map[Metric][]float64{Wall: {1, 1, 1}}}
	table.Rows = append(table.Rows, base)
	r := &Report{Tables: []*Table{table}}
	assert.Contains(t, r.Markdown(),
		"| t: ours, seconds | 1.00 (1.00 to 1.00) | 2.00 (2.00 to 2.00) | 2.000 | **worse** |\n")
}

func TestBarsAreMetOrMissed(t *testing.T) {
	encode := &Row{onCores(encoding, 1), Ours, map[Metric][]float64{Smaller: {130, 119, 118}, OfBound: {1.1}}}
	r := &Report{Tables: []*Table{{Name: "delta-bf16-1", Key: CPURate, Rows: []*Row{
		encode,
		{onCores(applying, 1), Ours, map[Metric][]float64{Rate: {100}}},
		{onCores(applying, 2), Ours, map[Metric][]float64{Rate: {190}, Peak: {63}}},
	}}}}
	text := r.Markdown()
	assert.Contains(t, text, "119.00 times smaller, at least 120: **missed**\n")
	assert.Contains(t, text, "1.10 of the bound, at most 1.25: met\n")
	assert.Contains(t, text, "1.90 as a multiple of MB/s, at least 1.8: met\n")
	assert.Contains(t, text, "63.00 peak MiB, at most 64: met\n")
	assert.NotContains(t, text, "delta-fp8-1", "what was not measured has no verdict")
}

func TestCodecMakesTheTargetAgain(t *testing.T) {
	dir := t.TempDir()
	b := &bench{dir: dir, flags: options{size: 1<<20 + 1, seed: 1}}
	changed, err := b.makeWeights(t.Context(), weights{"w", "bf16", 2, 0.01})
	require.NoError(t, err)
	insertion, err := b.makeInsertion(t.Context())
	require.NoError(t, err)
	release := filepath.Join(dir, "release")
	require.NoError(t, os.Mkdir(release, 0o700))
	require.NoError(t, os.Rename(changed.base, filepath.Join(release, "a")))
	build := b.changeOf("build")
	require.NoError(t, streamTo(release, build.base))
	require.NoError(t, os.Rename(filepath.Join(release, "a"), filepath.Join(release, "b")))
	require.NoError(t, streamTo(release, build.target))
	require.NoError(t, os.Rename(filepath.Join(release, "b"), changed.base))
	for _, c := range []change{changed, insertion, build} {
		made, again := filepath.Join(dir, "delta"), filepath.Join(dir, "again")
		require.NoError(t, codec(t.Context(), []string{encoding, c.base, c.target, made}))
		require.NoError(t, codec(t.Context(), []string{applying, c.base, again, made}))
		require.NoError(t, same(c.target, again))
		size, err := sizeOf(c.target)
		require.NoError(t, err)
		s, err := c.sized(Sample{}, size, made)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, s[Smaller], 1.9, c.name)
	}
	require.Error(t, codec(t.Context(), []string{applying, insertion.target, unwritten, filepath.Join(dir, "delta")}))
}

func TestWeightsOfAModelAreItsFloats(t *testing.T) {
	field := func(number byte, data ...byte) []byte { return append([]byte{number<<3 | 2, byte(len(data))}, data...) }
	tensor := func(kind byte, raw ...byte) []byte {
		return field(initializerOfGraph, append([]byte{typeOfTensor << 3, kind}, field(bytesOfTensor, raw...)...)...)
	}
	graph := slices.Concat(field(2, 'x'), tensor(float32s, 1, 2, 3, 4, 5, 6, 7, 8), tensor(7, 9, 9, 9, 9, 9, 9, 9, 9),
		field(nodeOfGraph, field(attributeOfNode, tensor(float32s, 10, 11, 12, 13)...)...))
	model := append([]byte{1 << 3, 9, 2<<3 | 5, 0, 0, 0, 0}, field(graphOfModel, graph...)...)
	got, err := bf16Of(model)
	require.NoError(t, err)
	assert.Equal(t, []byte{3, 4, 7, 8, 12, 13}, got)
	for size := range len(model) {
		if got, err := bf16Of(model[:size]); err == nil {
			assert.Empty(t, got, "cut to %d bytes", size)
		}
	}
	_, err = bf16Of([]byte{graphOfModel<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	require.ErrorIs(t, err, errMessage)
}
