package metrics_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// deployed is the directory of the dashboard and the rules.
const deployed = "../../deploy"

// series returns the names of all series; a histogram has three.
func series(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^\w+`).FindAllString(text(t, full(t)), -1) {
		if !slices.Contains(names, line) {
			names = append(names, line)
		}
	}
	require.Contains(t, names, "shardcast_shard_fetch_duration_seconds_bucket")
	return names
}

// named matches the name of a metric in a deployed file.
var named = regexp.MustCompile(`\b(shardcast|process|go)_\w+`)

// refer asserts that content names at least one metric, and that each one exists.
func refer(t *testing.T, name string, content string) {
	t.Helper()
	known := series(t)
	all := named.FindAllString(content, -1)
	require.NotEmpty(t, all, name)
	for _, metric := range all {
		assert.Contains(t, known, metric, "%s names it", name)
	}
}

func TestMetricsNamedInTheRulesExist(t *testing.T) {
	files, err := filepath.Glob(deployed + "/prometheus/*.rules*.yml")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, name := range files {
		rules, err := os.ReadFile(name)
		require.NoError(t, err)
		refer(t, name, string(rules))
	}
}

// panel is the part of a dashboard's panel that the tests read.
type panel struct {
	ID          int
	Type, Title string
	Description string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr string }
}

func TestMetricsNamedInTheDashboardExist(t *testing.T) {
	name := deployed + "/grafana/shardcast.json"
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	var dashboard struct{ Panels []panel }
	require.NoError(t, json.Unmarshal(data, &dashboard))
	refer(t, name, string(data))
	ids := make(map[int]string)
	taken := make(map[[2]int]string)
	var exprs []string
	for _, p := range dashboard.Panels {
		assert.Empty(t, ids[p.ID], "%s has the number of another", p.Title)
		ids[p.ID] = p.Title
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Less(t, at[0], 24, "%s is too wide", p.Title)
				require.Empty(t, taken[at], "%s lies on another", p.Title)
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			refer(t, p.Title, target.Expr)
			exprs = append(exprs, target.Expr)
		}
	}
	shown := strings.Join(exprs, "\n")
	for _, metric := range series(t) {
		family, ours := strings.CutPrefix(metric, "shardcast_")
		// The newest version is for the rules, the build for joins.
		if !ours || family == "upstream_newest_version" || family == "build_info" ||
			strings.HasSuffix(metric, "_sum") || strings.HasSuffix(metric, "_count") {
			continue
		}
		assert.Contains(t, shown, metric, "the dashboard does not show it")
	}
}

func TestMetricsNamedInTheDocsExistAndAllOfOursAreThere(t *testing.T) {
	data, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(data), "\n## Metrics\n")
	require.True(t, ok)
	section, _, ok = strings.Cut(section, "\n## ")
	require.True(t, ok)
	said := regexp.MustCompile(`\bshardcast_\w+`).FindAllString(section, -1)
	known := series(t)
	for _, metric := range said {
		exists := slices.Contains(known, metric) || slices.Contains(known, metric+"_bucket")
		assert.True(t, exists, "there is no %s", metric)
	}
	for _, metric := range known {
		if strings.HasPrefix(metric, "shardcast_") {
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(metric, "")
			assert.Contains(t, said, base, "docs/operations.md does not explain it")
		}
	}
}
