package tree

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/shardcast/shardcast/internal/shard"
)

// maxLine bounds a line of a list, in bytes: a path of which each byte is escaped, and room
// for members that later writers may add.
const maxLine = 6*maxPath + 8<<10

// Encode returns the text of files.jsonl. [Parse] reads it back as an equal tree.
func (t *Tree) Encode() []byte {
	var text bytes.Buffer
	for _, f := range t.files {
		text.WriteString(`{"path":`)
		quote(&text, f.Path)
		if f.Directory {
			text.WriteString(",\"directory\":true}\n")
			continue
		}
		text.WriteString(`,"size":` + strconv.FormatInt(f.Size, 10))
		text.WriteString(`,"offset":` + strconv.FormatInt(f.Offset, 10))
		text.WriteString(`,"digest":"` + f.Digest.String() + `"`)
		if f.Executable {
			text.WriteString(`,"executable":true`)
		}
		text.WriteString("}\n")
	}
	return text.Bytes()
}

// quote writes s as a JSON string, with the escapes that JSON requires and no others.
func quote(text *bytes.Buffer, s string) {
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string and a buffer do not fail
	text.Truncate(text.Len() - 1)
}

// Describe returns the description of the tree for a manifest, by the text of [Tree.Encode].
func (t *Tree) Describe(text []byte) *shard.Files {
	return &shard.Files{Count: len(t.files), Size: int64(len(text)), Digest: sha256.Sum256(text)}
}

// Parse reads the text of files.jsonl from r, line by line, and checks it against its
// description, of a valid manifest, and by the rules of [New]. It reads at most one byte more
// than described. Errors match [ErrTree], but for those of r.
func Parse(r io.Reader, want shard.Files) (*Tree, error) {
	digest := sha256.New()
	counted := &counter{r: io.LimitReader(io.TeeReader(r, digest), want.Size+1)}
	lines := bufio.NewScanner(counted)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	files := make([]File, 0, min(want.Count, 1000))
	for lines.Scan() {
		if len(files) == want.Count {
			return nil, fmt.Errorf("%w: more than %d lines", ErrTree, want.Count)
		}
		f, err := parseFile(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrTree, len(files)+1, err)
		}
		files = append(files, f)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%w: line %d is longer than %d bytes", ErrTree, len(files)+1, maxLine)
	} else if err != nil {
		return nil, fmt.Errorf("read list of files: %w", err)
	}
	switch {
	case counted.n != want.Size:
		return nil, fmt.Errorf("%w: %d bytes or more instead of %d", ErrTree, counted.n, want.Size)
	case len(files) != want.Count:
		return nil, fmt.Errorf("%w: %d lines instead of %d", ErrTree, len(files), want.Count)
	case [sha256.Size]byte(digest.Sum(nil)) != want.Digest:
		return nil, fmt.Errorf("%w: its digest is not the manifest's %s", ErrTree, want.Digest)
	}
	return New(files)
}

// counter counts the bytes that are read.
type counter struct {
	r io.Reader
	n int64
}

// Read reads from r.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// parseFile reads a line.
func parseFile(line []byte) (f File, err error) {
	// A struct would also take names that differ in case.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return f, err
	}
	places := map[string]any{"path": &f.Path, "directory": &f.Directory}
	required := []string{"path"}
	if string(members["directory"]) != "true" {
		places["size"], places["offset"], places["digest"] = &f.Size, &f.Offset, &f.Digest
		places["executable"] = &f.Executable
		required = append(required, "size", "offset", "digest")
	}
	for _, name := range required {
		if _, ok := members[name]; !ok {
			return f, fmt.Errorf("no %s", name)
		}
	}
	for name, place := range places {
		if raw, ok := members[name]; ok {
			if string(raw) == "null" {
				return f, fmt.Errorf("%s is null", name)
			}
			if err := json.Unmarshal(raw, place); err != nil {
				return f, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return f, nil
}
