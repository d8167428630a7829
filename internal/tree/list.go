package tree

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/shardcast/shardcast/internal/shard"
)

// maxLine bounds a line of a list, in bytes: a path of which each byte is escaped, and room
// for members that later writers may add.
const maxLine = 6*maxPath + 8<<10

// Encode returns the text of files.jsonl. [Parse] reads it back as an equal tree.
func (t *Tree) Encode() []byte {
	var text bytes.Buffer
	_, _ = t.Write(&text) // a buffer does not fail
	return text.Bytes()
}

// Write writes the text of files.jsonl to w, and returns its description for a manifest. Errors
// are those of w.
func (t *Tree) Write(w io.Writer) (*shard.Files, error) {
	described := &shard.Files{Count: t.Len()}
	digest := sha256.New()
	var line bytes.Buffer
	for f := range t.Files() {
		line.Reset()
		f.encode(&line)
		described.Size += int64(line.Len())
		digest.Write(line.Bytes())
		if _, err := w.Write(line.Bytes()); err != nil {
			return nil, err
		}
	}
	described.Digest = shard.Digest(digest.Sum(nil))
	return described, nil
}

// encode writes the line of f.
func (f File) encode(text *bytes.Buffer) {
	text.WriteString(`{"path":`)
	quote(text, f.Path)
	if f.Directory {
		text.WriteString(",\"directory\":true}\n")
		return
	}
	text.WriteString(`,"size":` + strconv.FormatInt(f.Size, 10))
	text.WriteString(`,"offset":` + strconv.FormatInt(f.Offset, 10))
	text.WriteString(`,"digest":"` + f.Digest.String() + `"`)
	if f.Executable {
		text.WriteString(`,"executable":true`)
	}
	text.WriteString("}\n")
}

// quote writes s as a JSON string, with the escapes that JSON requires and no others.
func quote(text *bytes.Buffer, s string) {
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string and a buffer do not fail
	text.Truncate(text.Len() - 1)
}

// Parse reads the text of files.jsonl from r, line by line, and checks it against its
// description, of a valid manifest, and by the rules of a tree. It reads at most one byte more
// than described. Errors match [ErrTree], and also [shard.ErrDigest] if the text is not the
// one that is described, or are those of r.
func Parse(r io.Reader, want shard.Files) (*Tree, error) {
	digest := sha256.New()
	counted := &counter{r: io.LimitReader(io.TeeReader(r, digest), want.Size+1)}
	t, err := parseLines(counted, want.Count)
	if err == nil || errors.Is(err, ErrTree) {
		// Another text is another server's fault than a bad one that is described.
		if _, failed := io.Copy(io.Discard, counted); failed != nil {
			err = fmt.Errorf("read list of files: %w", failed)
		}
	}
	switch {
	case err != nil && !errors.Is(err, ErrTree):
		return nil, err
	case counted.n != want.Size:
		return nil, fmt.Errorf("%w: %w: %d bytes or more instead of %d", ErrTree, shard.ErrDigest, counted.n, want.Size)
	case [sha256.Size]byte(digest.Sum(nil)) != want.Digest:
		return nil, fmt.Errorf("%w: %w: not the manifest's, %s", ErrTree, shard.ErrDigest, want.Digest)
	case err != nil:
		return nil, err
	case t.Len() != want.Count:
		return nil, fmt.Errorf("%w: %d lines instead of %d", ErrTree, t.Len(), want.Count)
	}
	return t, nil
}

// parseLines reads lines, of which there are at most count.
func parseLines(r io.Reader, count int) (*Tree, error) {
	t := newTree(max(0, min(count, shard.MaxFiles)))
	for f, err := range Lines(r) {
		if err != nil {
			return nil, err
		}
		if t.Len() == count {
			return nil, fmt.Errorf("%w: more than %d lines", ErrTree, count)
		}
		if err := t.add(f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Lines yields the files of the text of a files.jsonl, which nothing vouches for: neither their order
// nor anything else but the form of each is checked. An error ends it. It matches [ErrTree], or is that
// of r.
func Lines(r io.Reader) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 4<<10), maxLine)
		number := 1
		for ; lines.Scan(); number++ {
			f, err := parseFile(lines.Bytes())
			if err != nil {
				err = fmt.Errorf("%w: line %d: %w", ErrTree, number, err)
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(File{}, fmt.Errorf("%w: line %d is longer than %d bytes", ErrTree, number, maxLine))
		} else if err != nil {
			yield(File{}, fmt.Errorf("read list of files: %w", err))
		}
	}
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

// line is a line of a list. A nil pointer is a member that the line does not have.
type line struct {
	Path       *string
	Directory  bool
	Size       *int64
	Offset     *int64
	Digest     *shard.Digest
	Executable bool
}

// parseFile reads a line.
func parseFile(text []byte) (File, error) {
	if f, ok := parsePlain(text); ok {
		return f, nil
	}
	return parseJSON(text)
}

// parsePlain reads a line that [File.encode] has written, of a path without escapes, and reports
// whether text is one: encoding/json takes ten times as long for it.
func parsePlain(text []byte) (f File, ok bool) {
	p := plain{text, true}
	p.skip(`{"path":"`)
	f.Path = string(p.until('"'))
	if !p.ok || strings.ContainsFunc(f.Path, func(r rune) bool { return r < ' ' || r == '\\' }) ||
		!utf8.ValidString(f.Path) {
		return File{}, false
	}
	if string(p.rest) == `,"directory":true}` {
		f.Directory = true
		return f, true
	}
	p.skip(`,"size":`)
	f.Size = p.number(',')
	p.skip(`"offset":`)
	f.Offset = p.number(',')
	p.skip(`"digest":"`)
	digest := p.until('"')
	if f.Executable = string(p.rest) == `,"executable":true}`; !f.Executable {
		p.skip("}")
		p.ok = p.ok && len(p.rest) == 0
	}
	var err error
	if p.ok {
		f.Digest, err = shard.ParseDigest(string(digest))
	}
	return f, p.ok && err == nil
}

// plain is the rest of a line that is read by [parsePlain], as long as ok.
type plain struct {
	rest []byte
	ok   bool
}

// skip takes text.
func (p *plain) skip(text string) {
	if p.ok = p.ok && bytes.HasPrefix(p.rest, []byte(text)); p.ok {
		p.rest = p.rest[len(text):]
	}
}

// until takes what is before the next byte end, and that byte.
func (p *plain) until(end byte) (before []byte) {
	at := bytes.IndexByte(p.rest, end)
	if p.ok = p.ok && at >= 0; !p.ok {
		return nil
	}
	before = p.rest[:at]
	p.rest = p.rest[at+1:]
	return before
}

// number takes a number before the next byte end, and that byte.
func (p *plain) number(end byte) int64 {
	digits := p.until(end)
	n, err := strconv.ParseInt(string(digits), 10, 64)
	p.ok = p.ok && err == nil && strconv.FormatInt(n, 10) == string(digits)
	return n
}

// parseJSON reads a line of any form.
func parseJSON(text []byte) (File, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return File{}, err
	}
	switch {
	case l.Path == nil:
		return File{}, errors.New("no path")
	case l.Directory:
		return File{Path: *l.Path, Directory: true}, nil
	case l.Size == nil:
		return File{}, errors.New("no size")
	case l.Offset == nil:
		return File{}, errors.New("no offset")
	case l.Digest == nil:
		return File{}, errors.New("no digest")
	}
	return File{
		Path: *l.Path, Executable: l.Executable, Size: *l.Size, Offset: *l.Offset, Digest: *l.Digest,
	}, nil
}
