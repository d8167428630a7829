package progress

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/shardcast/shardcast"
)

// WriteVersions writes versions to w as a table. Unknown cells are empty. It has a column of
// the numbers of files if a version is a directory, one of deltas and one of labels if a version has any. A
// release that is not zero comes first, and a column says which versions it lists.
func WriteVersions(w io.Writer, versions []shardcast.Version, r shardcast.Release) error {
	hasRelease := r.Feed != ""
	if hasRelease {
		if _, err := fmt.Fprintln(w, release(r)); err != nil {
			return err
		}
	}
	trees := slices.ContainsFunc(versions, func(v shardcast.Version) bool { return v.Directory })
	changed := slices.ContainsFunc(versions, hasDeltas)
	labelled := slices.ContainsFunc(versions, func(v shardcast.Version) bool { return len(v.Labels) > 0 })
	rows := [][]string{columns("VERSION", only(hasRelease, "SIGNED"), "FILE", "SIZE", "SHARDS", only(trees, "FILES"),
		only(changed, "DELTAS"), "DATE", "DIGEST", only(labelled, "LABELS"))}
	for _, v := range versions {
		rows = append(rows, columns(v.Name, only(hasRelease, word(v.Signed, "signed", "no")), printable(v.File),
			sizeOf(v.Size), number(v.Shards), only(trees, files(v)), only(changed, deltas(v)), date(v.Date),
			v.Digest, only(labelled, labels(v.Labels))))
	}
	return writeTable(w, rows)
}

// shortDigest is how many digits of a digest the table of a data directory has.
const shortDigest = 12

// WriteHeldVersions writes the versions of a data directory to w as a table. If it has a release,
// which is not zero then, that stands above it, and there is a column of the versions that it lists.
func WriteHeldVersions(w io.Writer, held []shardcast.HeldVersion, r shardcast.Release) error {
	hasRelease := r.Feed != ""
	if hasRelease {
		if _, err := fmt.Fprintln(w, release(r)); err != nil {
			return err
		}
	}
	changed := slices.ContainsFunc(held, func(h shardcast.HeldVersion) bool { return hasDeltas(h.Version) })
	rows := [][]string{columns("VERSION", "DATE", "SIZE", "FILES", only(changed, "DELTAS"), "PINNED",
		only(hasRelease, "SIGNED"), "DIGEST", "NAME", "LABELS")}
	for _, h := range held {
		v := h.Version
		rows = append(rows, columns(
			v.Name, date(v.Date), sizeOf(v.Size), files(v), only(changed, deltas(v)), word(h.Pinned, "pinned", ""),
			only(hasRelease, word(h.Signed, "signed", "no")),
			v.Digest[:min(len(v.Digest), shortDigest)], printable(v.File), labels(v.Labels),
		))
	}
	return writeTable(w, rows)
}

// word returns yes or no.
func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// release describes a release in one line.
func release(r shardcast.Release) string {
	text := fmt.Sprintf("release: feed %s, epoch %d, signed %s (%s), ", r.Feed, r.Epoch, date(r.Issued),
		humanize.Time(r.Issued))
	switch {
	case r.Expires.IsZero():
		return text + "never expires"
	case r.Expires.Before(time.Now()):
		return text + fmt.Sprintf("expired %s (%s)", date(r.Expires), humanize.Time(r.Expires))
	}
	return text + fmt.Sprintf("expires %s (%s)", date(r.Expires), humanize.Time(r.Expires))
}

// WriteFiles writes the files of versions to w as a table. That of a version which is a file
// has its name.
func WriteFiles(w io.Writer, versions []shardcast.Version) error {
	rows := [][]string{{"VERSION", "SIZE", "DIGEST", "PATH"}}
	for _, v := range versions {
		if !v.Directory {
			rows = append(rows, []string{v.Name, sizeOf(v.Size), v.Digest, printable(v.File)})
		}
		for _, f := range v.Files {
			if f.Directory {
				rows = append(rows, []string{v.Name, "", "", printable(f.Path + "/")})
				continue
			}
			rows = append(rows, []string{v.Name, sizeOf(f.Size), f.Digest, printable(f.Path)})
		}
	}
	return writeTable(w, rows)
}

// writeTable writes rows in columns, without spaces at the ends of lines.
func writeTable(w io.Writer, rows [][]string) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// absent is a cell of a column that a table does not have.
const absent = "\t"

// only returns cell if a table has its column.
func only(has bool, cell string) string {
	if has {
		return cell
	}
	return absent
}

// columns returns the cells of the columns that a table has.
func columns(cells ...string) []string {
	return slices.DeleteFunc(cells, func(cell string) bool { return cell == absent })
}

// sizeOf is a number of bytes for people, or nothing if it is unknown.
func sizeOf(bytes int64) string {
	if bytes < 0 {
		return ""
	}
	return strings.ReplaceAll(humanize.Bytes(uint64(bytes)), " ", "")
}

// number is n, or nothing if it is unknown.
func number(n int) string {
	if n < 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// files is the number of files of a directory.
func files(v shardcast.Version) string {
	if !v.Directory {
		return ""
	}
	return strconv.Itoa(v.FileCount)
}

func hasDeltas(v shardcast.Version) bool { return len(v.Deltas) > 0 }

// deltas are the bases of a version's deltas and their sizes.
func deltas(v shardcast.Version) string {
	var words []string
	for _, d := range v.Deltas {
		words = append(words, d.Base+":"+sizeOf(d.Size))
	}
	return strings.Join(words, ",")
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// labels are names and values in the order of the names.
func labels(of map[string]string) string {
	words := make([]string, 0, len(of))
	for _, name := range slices.Sorted(maps.Keys(of)) {
		words = append(words, printable(name+"="+of[name]))
	}
	return strings.Join(words, " ")
}

// printable is a name from the network for a table: quoted if a terminal or a reader of
// columns could misread it.
func printable(name string) string {
	if quoted := strconv.Quote(name); strings.Contains(name, " ") || quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
