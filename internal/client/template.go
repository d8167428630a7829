package client

import (
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/shardcast/shardcast/internal/shard"
)

// DefaultTemplate is where a followed version goes if nothing else is said.
const DefaultTemplate = "{version}/{name}"

// template says where a version's file goes in the output directory, with slashes.
type template string

// parseTemplate reads a template, in which {version} stands for v7, {n} for 7 and
// {name} for the file's name.
func parseTemplate(text string) (template, error) {
	t := template(text)
	bare := t.fill(strings.NewReplacer("{version}", "", "{n}", "", "{name}", ""))
	sample := t.path(1, "name")
	switch {
	case strings.ContainsAny(bare, `{}`):
		return "", fmt.Errorf("template %q: want no braces but {version}, {n} and {name}", text)
	case !numbered(text):
		return "", fmt.Errorf("template %q: want {version} or {n} in it, for each version to have its own file", text)
	case strings.Contains(text, `\`), path.Clean(sample) != sample, !filepath.IsLocal(filepath.FromSlash(sample)):
		return "", fmt.Errorf("template %q: want a path that stays in the output directory, with slashes", text)
	case t.begins(hidden), strings.HasSuffix(sample, tempSuffix), !printable(text):
		return "", fmt.Errorf("template %q: not a path for files to stay at", text)
	}
	return t, nil
}

func (t template) fill(r *strings.Replacer) string { return r.Replace(string(t)) }

// path is where version's file goes that is called name, which must be fit for one.
func (t template) path(version shard.Version, name string) string {
	return t.fill(strings.NewReplacer("{version}", version.String(), "{n}", strconv.FormatUint(uint64(version), 10), "{name}", name))
}

// ownDir reports whether each version has a directory of its own.
func (t template) ownDir() bool { return numbered(path.Dir(string(t))) }

// begins reports whether the first directory on the way to each file, or the file, is
// called name.
func (t template) begins(name string) bool {
	first, _, _ := strings.Cut(t.path(1, "name"), "/")
	return first == name
}

func numbered(text string) bool {
	return strings.Contains(text, "{version}") || strings.Contains(text, "{n}")
}

// checkName returns an error unless name can be that of a file beside a download.
func checkName(name string) error {
	if name == "." || name == ".." || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) || !printable(name) ||
		name == hidden || strings.HasSuffix(name, tempSuffix) || len(name) > maxName {
		return fmt.Errorf("%q: want the name of a file, without a directory", name)
	}
	return nil
}

// fileName is what the file of version is called here that is called name where it was
// published: the same, if that can do no harm, or else as other downloads are. A name
// that is hidden, or that the file taken has beside it, can.
func fileName(version shard.Version, name, taken string) string {
	if checkName(name) != nil || name[0] == '.' || len(name) > maxName-maxVersionName || strings.EqualFold(name, taken) {
		return "download_" + version.String() + ".bin"
	}
	return name
}

// maxVersionName is room for a version and a few letters beside a name.
const maxVersionName = 64

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
