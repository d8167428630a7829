package release

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/shardcast/shardcast/internal/shard"
)

const (
	untrusted = "untrusted comment: signature from shardcast"
	trusted   = "trusted comment: "
)

// Parse reads the bytes of release.txt, which it keeps. It checks the form alone: of a release
// that is not verified nothing may be used, see [Signed.Verify]. Errors match [ErrForm] and
// name the line.
func Parse(file []byte) (Signed, error) {
	if len(file) > MaxSize {
		return Signed{}, fmt.Errorf("%w: it has more than %d bytes", ErrForm, MaxSize)
	}
	p := parser{rest: file}
	r := p.release()
	size := len(file) - len(p.rest)
	keyID := p.signature(r)
	if p.err != nil {
		return Signed{}, fmt.Errorf("%w: line %d: %w", ErrForm, p.line, p.err)
	}
	return newSigned(r, file, size, keyID), nil
}

// parser reads line after line. After an error it reads nothing more.
type parser struct {
	rest []byte
	line int // the number of the line that was read last
	err  error
}

// release reads the text before the signature.
func (p *parser) release() Release {
	p.exactly(title)
	r := Release{Feed: p.feed(), Epoch: p.number("epoch: "), Seq: p.number("seq: ")}
	r.Issued = p.time("issued: ")
	r.Expires = p.expires(r.Issued)
	r.Entries = p.entries()
	return r
}

// signature reads the rest, and returns the identifier of the key.
func (p *parser) signature(r Release) (keyID uint64) {
	p.exactly(untrusted)
	signature := p.base64(signatureSize)
	if p.err == nil {
		keyID, p.err = keyIDOf(signature)
	}
	p.exactly(trusted + r.trustedComment())
	p.base64(globalSize)
	if p.err == nil && len(p.rest) > 0 {
		p.line++
		p.err = fmt.Errorf("%.80q stands after the signature", p.rest)
	}
	return keyID
}

// next returns the next line without its LF.
func (p *parser) next() string {
	if p.err != nil {
		return ""
	}
	p.line++
	line, rest, ok := bytes.Cut(p.rest, []byte{'\n'})
	if !ok {
		p.err = fmt.Errorf("it ends in the middle, with %.80q", p.rest)
		return ""
	}
	p.rest = rest
	return string(line)
}

// exactly reads a line that can only be this one.
func (p *parser) exactly(want string) {
	if line := p.next(); p.err == nil && line != want {
		p.err = fmt.Errorf("it is %.80q, want %q", line, want)
	}
}

// field reads the line of a field.
func (p *parser) field(name string) string {
	line := p.next()
	value, ok := strings.CutPrefix(line, name)
	if p.err == nil && !ok {
		p.err = fmt.Errorf("it is %.80q, want %q and a value", line, name)
	}
	return value
}

func (p *parser) feed() string {
	feed := p.field("feed: ")
	if p.err == nil {
		p.err = CheckFeed(feed)
	}
	return feed
}

func (p *parser) number(name string) (n uint64) {
	value := p.field(name)
	if p.err == nil {
		n, p.err = parseNumber(value, 1)
	}
	return n
}

func (p *parser) time(name string) (t time.Time) {
	value := p.field(name)
	if p.err == nil {
		t, p.err = parseTime(value)
	}
	return t
}

func (p *parser) expires(issued time.Time) (t time.Time) {
	value := p.field("expires: ")
	if p.err != nil || value == never {
		return time.Time{}
	}
	t, p.err = parseTime(value)
	if p.err == nil && !t.After(issued) {
		p.err = errors.New("it expires before it is issued")
	}
	return t
}

// entries reads the versions, up to the line that is none.
func (p *parser) entries() (entries []Entry) {
	last := shard.Version(0)
	if p.err == nil && bytes.HasPrefix(p.rest, []byte("v")) {
		entries = make([]Entry, 0, min(MaxVersions, bytes.Count(p.rest, []byte("\nv"))+1))
	}
	for p.err == nil && bytes.HasPrefix(p.rest, []byte("v")) {
		e, err := parseEntry(p.next())
		switch {
		case p.err != nil:
		case err != nil:
			p.err = err
		case e.Version <= last:
			p.err = fmt.Errorf("%s stands after %s", e.Version, last)
		case len(entries) == MaxVersions:
			p.err = fmt.Errorf("it has more than %d versions", MaxVersions)
		}
		last = e.Version
		entries = append(entries, e)
	}
	return entries
}

// base64 reads a line of size bytes in their only base64 form.
func (p *parser) base64(size int) []byte {
	line := p.next()
	if p.err != nil {
		return nil
	}
	value, err := base64.StdEncoding.DecodeString(line)
	if err != nil || len(value) != size || base64.StdEncoding.EncodeToString(value) != line {
		p.err = fmt.Errorf("%.120q is not the base64 of %d bytes", line, size)
	}
	return value
}

// parseEntry reads the line of a version.
func parseEntry(line string) (Entry, error) {
	name, rest, _ := strings.Cut(line, " ")
	version, err := shard.ParseVersion(name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Version: version, Withdrawn: rest == "withdrawn"}
	if e.Withdrawn {
		return e, nil
	}
	digest, rest, _ := strings.Cut(rest, " ")
	size, manifest, _ := strings.Cut(rest, " ")
	digest, ok1 := strings.CutPrefix(digest, "sha256=")
	size, ok2 := strings.CutPrefix(size, "size=")
	manifest, ok3 := strings.CutPrefix(manifest, "manifest=")
	if !ok1 || !ok2 || !ok3 {
		return Entry{}, fmt.Errorf(`%s is neither "withdrawn" nor "sha256=... size=... manifest=..."`, version)
	}
	n, err := parseNumber(size, 0)
	if err != nil {
		return Entry{}, err
	}
	e.Size = int64(n)
	if e.Digest, err = shard.ParseDigest(digest); err != nil {
		return Entry{}, err
	}
	e.Manifest, err = shard.ParseDigest(manifest)
	return e, err
}

// keyIDOf returns the identifier in the bytes of a signature of the prehashed form, and an error
// for the old one, in which minisign's older versions sign.
func keyIDOf(signature []byte) (uint64, error) {
	if algorithm := binary.LittleEndian.Uint16(signature); algorithm != minisign.HashEdDSA {
		return 0, fmt.Errorf("the algorithm of the signature is %q, want %q", signature[:2], "ED")
	}
	return binary.LittleEndian.Uint64(signature[2:]), nil
}
