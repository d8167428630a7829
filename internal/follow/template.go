package follow

import (
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/shard"
)

// DefaultTemplate is the default of [Options.Template].
const DefaultTemplate = "{version}/{name}"

// template is the path of a version's file in the output directory, with slashes.
type template string

// parseTemplate parses a template, in which {version} stands for v7, {n} for 7 and {name} for
// the file's name.
func parseTemplate(text string) (template, error) {
	t := template(text)
	bare := t.fill(strings.NewReplacer("{version}", "", "{n}", "", "{name}", ""))
	sample := t.path(1, "name")
	switch {
	case strings.ContainsAny(bare, `{}`):
		return "", fmt.Errorf("Template: %q: want no braces but {version}, {n} and {name}", text)
	case !numbered(text):
		return "", fmt.Errorf("Template: %q: want {version} or {n} in it, for each version to have its own file", text)
	case strings.Contains(text, `\`), path.Clean(sample) != sample, !filepath.IsLocal(filepath.FromSlash(sample)):
		return "", fmt.Errorf("Template: %q: want a path that stays in the output directory, with slashes", text)
	case isOurs(sample), !printable(text):
		return "", fmt.Errorf("Template: %q: not a path for files to stay at", text)
	}
	return t, nil
}

func (t template) fill(r *strings.Replacer) string { return r.Replace(string(t)) }

// file is the path of version's file, which has the publisher's name if that is harmless.
func (t template) file(version shard.Version, published, marker string) string {
	file := t.path(version, fileName(version, published, marker))
	if isOurs(file) { // a name that is harmless by itself makes it so
		return t.path(version, plainName(version))
	}
	return file
}

// isOurs reports whether a path is that of a file of ours, which is not to stay.
func isOurs(file string) bool {
	first, _, _ := strings.Cut(file, "/")
	return first == hidden || strings.HasSuffix(file, client.PartSuffix)
}

// path is the path of version's file; name comes from [fileName].
func (t template) path(version shard.Version, name string) string {
	number := strconv.FormatUint(uint64(version), 10)
	return t.fill(strings.NewReplacer("{version}", version.String(), "{n}", number, "{name}", name))
}

// ownDir reports whether each version has a directory of its own.
func (t template) ownDir() bool { return numbered(path.Dir(string(t))) }

// begins reports whether the paths begin with the element name.
func (t template) begins(name string) bool {
	first, _, _ := strings.Cut(t.path(1, "name"), "/")
	return first == name
}

func numbered(text string) bool {
	return strings.Contains(text, "{version}") || strings.Contains(text, "{n}")
}

// checkName returns an error unless name can be the name of a file in the output directory.
func checkName(name string) error {
	if name == "." || name == ".." || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) ||
		!printable(name) || name == hidden || strings.HasSuffix(name, client.PartSuffix) || len(name) > client.MaxName {
		return fmt.Errorf("%q: want the name of a file, without a directory", name)
	}
	return nil
}

// versionRoom is room, in the name of a file, for a version and a few letters of a template.
const versionRoom = 64

// fileName is the name of version's file here, where the publisher's name, which comes from the
// network, is published. That is taken if it is harmless: a name, not hidden, and not that of
// the marker. Otherwise the name is that of a single download.
func fileName(version shard.Version, published, marker string) string {
	if checkName(published) != nil || published[0] == '.' || len(published) > client.MaxName-versionRoom ||
		strings.EqualFold(published, marker) {
		return plainName(version)
	}
	return published
}

// plainName is the name of a version's file where the publisher's is not taken.
func plainName(version shard.Version) string { return "download_" + version.String() + ".bin" }

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
