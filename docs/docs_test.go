// Package docs_test keeps the pages for people true: their links, their words, and the
// log messages and stories that they name.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pages returns the text of every page, without code, by its path in the repository.
func pages(t *testing.T) map[string]string {
	t.Helper()
	t.Chdir("..")
	paths, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.Greater(t, len(paths), 5)
	texts := make(map[string]string)
	paths = append(paths, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "deploy/README.md")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		texts[path] = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(string(data), "")
	}
	return texts
}

// anchors returns the names by which a link reaches the headings of a page, as GitHub
// makes them.
func anchors(text string) []string {
	var names []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func TestLinksLeadSomewhere(t *testing.T) {
	texts := pages(t)
	for path, text := range texts {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", path, link[1])
			if anchor != "" {
				assert.Contains(t, anchors(texts[target]), anchor, "%s links to %s", path, link[1])
			}
		}
	}
}

// A machine is a node, a server, a reader; only people are someone.
func TestMachinesAreNoPeople(t *testing.T) {
	person := regexp.MustCompile(`(?i)\b(who|whoever|whom|nobody|somebody|he|his|himself)\b`)
	for path, text := range pages(t) {
		for number, line := range strings.Split(text, "\n") {
			assert.NotRegexp(t, person, line, "%s, line %d, counted without code", path, number+1)
		}
	}
}

// section returns the part of a page below a heading.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(pages(t)[filepath.Join("docs", page)], "\n## "+heading+"\n")
	require.True(t, ok, heading)
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

func TestLogMessagesThatMatterExist(t *testing.T) {
	table := section(t, "operations.md", "Log lines that matter")
	var source strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		source.Write(data)
		return err
	}))
	rows := regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(table, -1)
	require.Greater(t, len(rows), 10)
	for _, row := range rows {
		for _, message := range regexp.MustCompile("`(.*?)`").FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(source.String(), `"`+message[1]+`"`) { // too long for assert to print
				t.Errorf("no package logs %q", message[1])
			}
		}
	}
}

func TestStoriesThatShowCompatibilityExist(t *testing.T) {
	table := section(t, "compatibility.md", "Tested combinations")
	rows := regexp.MustCompile(`(?m)\| ([a-z0-9_, ]+) \|$`).FindAllStringSubmatch(table, -1)
	require.Greater(t, len(rows), 10)
	for _, row := range rows {
		for _, story := range strings.Split(row[1], ", ") {
			assert.FileExists(t, filepath.Join("cmd", "testdata", "script", story+".txtar"))
		}
	}
}

// The README lists every page, and a page names no flag that is gone.
func TestThePagesAreListedAndTheirFlagsExist(t *testing.T) {
	texts := pages(t)
	for path, text := range texts {
		if strings.HasPrefix(path, "docs") {
			assert.Contains(t, texts["README.md"], "]("+filepath.ToSlash(path)+")")
		}
		if path != filepath.Join("docs", "threat-model.md") && path != "SECURITY.md" {
			continue // others name flags of other programs
		}
		for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(text, -1) {
			assert.Contains(t, texts[filepath.Join("docs", "reference.md")], "`"+flag, path)
		}
	}
}

func TestEveryPackageHasItsQuestion(t *testing.T) {
	table := section(t, "design.md", "Packages")
	packages, err := filepath.Glob(filepath.Join("internal", "*"))
	require.NoError(t, err)
	require.Greater(t, len(packages), 10)
	for _, path := range packages {
		assert.Contains(t, table, "`"+filepath.Base(path)+"`", "docs/design.md does not say what it answers")
	}
}

// TestGuaranteesNameTheirTests finds each story and test that the threat model names in parentheses.
func TestGuaranteesNameTheirTests(t *testing.T) {
	text := strings.Join(strings.Fields(pages(t)["docs/threat-model.md"]), " ")
	tests := make(map[string]bool)
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
		for _, name := range function.FindAllStringSubmatch(string(data), -1) {
			tests[name[1]] = true
		}
		return err
	}))
	const name = "(?:\\w+|`make \\w+`)"
	named := regexp.MustCompile(`\((`+name+`(?:, `+name+`)*)\)`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(named), 25)
	for _, list := range named {
		for name := range strings.SplitSeq(list[1], ", ") {
			if !strings.HasPrefix(name, "`") && !tests[name] {
				assert.FileExists(t, filepath.Join("cmd/testdata/script", name+".txtar"))
			}
		}
	}
}

// The worked example of a delta is the one that the codec is tested with.
func TestDeltaExampleIsThatOfThePackage(t *testing.T) {
	t.Chdir("..")
	bytesOf := func(path, before string) (lines []string) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		pattern := regexp.MustCompile(`(?m)^` + before + `((?:[0-9a-f]{2} )+) +\S`)
		_, text, _ := strings.Cut(string(data), "abddefgh!")
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			lines = append(lines, strings.TrimSpace(m[1]))
		}
		return lines
	}
	documented := bytesOf(filepath.Join("internal", "delta", "doc.go"), "//\t")
	require.Len(t, documented, 9)
	assert.Equal(t, documented, bytesOf(filepath.Join("docs", "protocol.md"), ""))
}
