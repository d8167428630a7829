package client

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/shard"
)

// CheckName returns an error unless name can be that of a file or directory which a download
// leaves: without a directory, of printable characters, and not that of a partial file.
func CheckName(name string) error {
	if name == "." || name == ".." || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) ||
		!IsPrintable(name) || strings.HasSuffix(name, partial.Suffix) || len(name) > disk.MaxName {
		return fmt.Errorf("%q: want the name of a file, without a directory", name)
	}
	return nil
}

// IsPrintable reports whether text is UTF-8 that a terminal shows as it is.
func IsPrintable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// treeSuffix ends the name of a version that is a tree, for receivers to whom it is a tar.
const treeSuffix = ".tar"

// PublishedName is the name that the publisher has given the version of m, without the suffix
// of a tree's. It comes from the network: [CheckName] says whether it can be a file's.
func PublishedName(m shard.Manifest) string {
	if m.Files != nil {
		return strings.TrimSuffix(m.Name, treeSuffix)
	}
	return m.Name
}

// defaultName is the name of the output for version v, whose manifest is m: download_v1.bin,
// or for a tree the publisher's name if that is harmless and not hidden, and download_v1.
func defaultName(v shard.Version, m shard.Manifest) string {
	plain := "download_" + v.String()
	if m.Files == nil {
		return plain + ".bin"
	}
	if name := PublishedName(m); CheckName(name) == nil && name[0] != '.' {
		return name
	}
	return plain
}
