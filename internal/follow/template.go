package follow

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// DefaultTemplate is the default of [Options.Template].
const DefaultTemplate = "{version}/{name}"

// ErrLabel means that a version has no path, because it lacks a label that the template wants,
// or because the label's value cannot be part of a path there.
var ErrLabel = errors.New("its labels make no path by the template")

// template is the path of a version's file or directory in the output directory, with slashes
// and fields.
type template string

// fields are the fields of a template: {version} stands for v7, {n} for 7, {n:06} for 000007,
// {name} for the published name, {label.step} for the value of that label, and
// {label.step:06} for a value that is a number.
var fields = regexp.MustCompile(
	`\{(?:(name)|(version)|(?:(n)|label\.([A-Za-z][A-Za-z0-9._-]*))(?::0([1-9]|1[0-8]))?)\}`)

// The groups of fields.
const (
	nameField = iota + 1
	versionField
	numberField
	labelField
	widthOfField
)

func parseTemplate(text string) (template, error) {
	sample := fields.ReplaceAllString(text, "1")
	switch {
	case strings.ContainsAny(sample, `{}`):
		return "", fmt.Errorf("Template: %q: want no braces but {version}, {n}, {n:06}, {name}, {label.NAME} and "+
			"{label.NAME:06}", text)
	case text == "", strings.Contains(text, `\`), path.Clean(sample) != sample,
		!filepath.IsLocal(filepath.FromSlash(sample)), sample == ".":
		return "", fmt.Errorf("Template: %q: want a path that stays in the output directory, with slashes", text)
	case record.IsOurs(sample), !client.IsPrintable(text):
		return "", fmt.Errorf("Template: %q: not a path for files to stay at", text)
	}
	return template(text), nil
}

// subject is the version that a template is filled in for. The manifest, which comes from the
// network, has its name and labels.
type subject struct {
	version  shard.Version
	manifest shard.Manifest
}

// file is the path of s, which has the publisher's name if that is harmless, and is neither
// that of the marker beside it nor leads through the link. The error matches [ErrLabel].
func (t template) file(s subject, marker, link string) (string, error) {
	var why error
	for _, name := range []string{s.name(marker), s.plainName()} {
		file, err := t.fill(s, name)
		if err != nil {
			return "", err
		}
		if why = checkPath(file, marker, link); why == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: %w", ErrLabel, why)
}

// fill puts the values of s, and a name, in the place of the fields.
func (t template) fill(s subject, name string) (string, error) {
	var failed error
	file := fields.ReplaceAllStringFunc(string(t), func(field string) string {
		groups := fields.FindStringSubmatch(field)
		width, _ := strconv.Atoi(groups[widthOfField]) // 0 if there is none
		switch {
		case groups[nameField] != "":
			return name
		case groups[versionField] != "":
			return s.version.String()
		case groups[numberField] != "":
			return fmt.Sprintf("%0*d", width, s.version)
		}
		value, err := s.label(groups[labelField], width)
		if err != nil && failed == nil {
			failed = fmt.Errorf("%w: %w", ErrLabel, err)
		}
		return value
	})
	return file, failed
}

// label is the value of a label, of which a width makes a number of at least so many digits.
func (s subject) label(name string, width int) (string, error) {
	value, ok := s.manifest.Labels[name]
	if !ok {
		return "", fmt.Errorf("it has no label %s", name)
	}
	if width > 0 {
		if value == "" || strings.Trim(value, "0123456789") != "" {
			return "", fmt.Errorf("the label %s is %q, which is not a number", name, value)
		}
		digits := strings.TrimLeft(value, "0")
		value = strings.Repeat("0", max(0, width-len(digits))) + digits
	}
	if client.CheckName(value) != nil || value[0] == '.' {
		return "", fmt.Errorf("the label %s is %q, which cannot be part of a path", name, value)
	}
	return value, nil
}

// checkPath returns an error if a path that values from the network are part of cannot be that
// of a version.
func checkPath(file, marker, link string) error {
	elements := strings.Split(file, "/")
	for _, element := range elements {
		if len(element) > disk.MaxName {
			return fmt.Errorf("%.40q... is longer than %d bytes", element, disk.MaxName)
		}
	}
	switch last := elements[len(elements)-1]; {
	case record.IsOurs(file):
		return fmt.Errorf("%s is not a path for files to stay at", file)
	case marker != "" && strings.EqualFold(last, marker):
		return fmt.Errorf("%s would be the marker", file)
	case link != "" && strings.EqualFold(elements[0], link):
		return fmt.Errorf("%s is where the link is", file)
	}
	return nil
}

// ownDir reports whether each version may have a directory of its own.
func (t template) ownDir() bool {
	of := fields.FindAllString(path.Dir(string(t)), -1)
	return slices.ContainsFunc(of, func(field string) bool { return field != "{name}" })
}

// begins reports whether the paths begin with the element name.
func (t template) begins(name string) bool {
	first, _, _ := strings.Cut(fields.ReplaceAllString(string(t), "1"), "/")
	return first == name
}

// checkName returns an error unless name can be the name of a file in the output directory.
func checkName(name string) error {
	if name == record.Hidden || strings.HasSuffix(name, record.GoneSuffix) {
		return fmt.Errorf("%q: it is the name of a file of follow's own", name)
	}
	return client.CheckName(name)
}

// versionRoom is room, in the name of a file, for a version and a few letters of a template.
const versionRoom = 64

// name is the name of the file or directory here: the publisher's if that is harmless, which
// is a name, not hidden, and not that of the marker, and otherwise that of a single download.
func (s subject) name(marker string) string {
	published := client.PublishedName(s.manifest)
	if checkName(published) != nil || published[0] == '.' || len(published) > disk.MaxName-versionRoom ||
		strings.EqualFold(published, marker) {
		return s.plainName()
	}
	return published
}

// plainName is the name where the publisher's is not taken.
func (s subject) plainName() string {
	if s.manifest.Files != nil {
		return "download_" + s.version.String()
	}
	return "download_" + s.version.String() + ".bin"
}
