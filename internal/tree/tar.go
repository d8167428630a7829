package tree

import (
	"strconv"
	"strings"
)

const (
	block   = 512       // bytes; all of a tar is a multiple of it
	closing = 2 * block // zeros end a stream
	large   = 1 << 33   // bytes, the least size without room in a header
)

// zeros pad contents, and end a stream.
var zeros [closing]byte

// padded is size, rounded up to whole blocks.
func padded(size int64) int64 { return (size + block - 1) / block * block }

// name is the path of f as a header has it.
func (f File) name() string {
	if f.Directory {
		return f.Path + "/"
	}
	return f.Path
}

// records returns the records of the pax header of f, or nothing if it has none.
func (f File) records() string {
	name := f.name()
	if h := (ustar{name: name}); h.divide() && isASCII(name) && f.Size < large {
		return ""
	}
	text := record("path", name)
	if f.Size >= large {
		text += record("size", strconv.FormatInt(f.Size, 10))
	}
	return text
}

// headerSize is the length of [header], in bytes.
func headerSize(f File) int64 {
	records := int64(len(f.records()))
	if records == 0 {
		return block
	}
	return block + padded(records) + block
}

// appendHeader appends to text the bytes of the stream between the end of the file before f and
// the content of f.
func appendHeader(text []byte, f File) []byte {
	h := ustar{name: f.name(), executable: f.Executable || f.Directory, size: f.Size, typeflag: '0'}
	if f.Directory {
		h.typeflag = '5'
	}
	records := f.records()
	if records == "" {
		h.divide()
		return h.append(text)
	}
	if f.Size >= large {
		h.size = 0
	}
	h.name = "file"
	text = ustar{name: "pax", size: int64(len(records)), typeflag: 'x'}.append(text)
	text = append(text, records...)
	text = append(text, zeros[:padded(int64(len(records)))-int64(len(records))]...)
	return h.append(text)
}

// record returns a record of a pax header: its own length in digits, a space, the name, "=",
// the value and a newline.
func record(name, value string) string {
	rest := " " + name + "=" + value + "\n"
	length := len(rest)
	for length != len(rest)+len(strconv.Itoa(length)) {
		length = len(rest) + len(strconv.Itoa(length))
	}
	return strconv.Itoa(length) + rest
}

// isASCII reports whether all of s is ASCII.
func isASCII(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r > 0x7f }) < 0 }

// ustar is a header of 512 bytes, and its fields that differ from one to another.
type ustar struct {
	name, prefix string
	executable   bool
	size         int64
	typeflag     byte
}

// Bounds of the fields name and prefix, in bytes.
const maxNameField, maxPrefixField = 100, 155

// divide moves what has no room in the field name to the field prefix, and reports whether
// both have room then.
func (h *ustar) divide() bool {
	if len(h.name) <= maxNameField {
		return true
	}
	// The slash at the end of a directory's name divides nothing.
	at := strings.LastIndexByte(h.name[:min(maxPrefixField+1, len(h.name)-1)], '/')
	if at < 1 || len(h.name)-at-1 > maxNameField {
		return false
	}
	h.prefix, h.name = h.name[:at], h.name[at+1:]
	return true
}

// append appends the header to text.
func (h ustar) append(text []byte) []byte {
	at := len(text)
	text = append(text, zeros[:block]...)
	b := text[at:]
	copy(b, h.name)
	copy(b[100:], "0000644")
	if h.executable {
		copy(b[100:], "0000755")
	}
	copy(b[108:], "0000000") // uid
	copy(b[116:], "0000000") // gid
	octal(b[124:135], h.size)
	copy(b[136:], "00000000000") // mtime
	copy(b[148:], "        ")    // the checksum, while it is computed
	b[156] = h.typeflag
	copy(b[257:], "ustar\x0000")
	copy(b[329:], "0000000") // devmajor
	copy(b[337:], "0000000") // devminor
	copy(b[345:], h.prefix)
	sum := int64(0)
	for _, written := range [][]byte{b[:len(h.name)], b[100:157], b[257:265], b[329 : 345+len(h.prefix)]} {
		for _, c := range written {
			sum += int64(c)
		}
	}
	octal(b[148:154], sum)
	b[154] = 0
	return text
}

// octal writes n in octal digits that fill to.
func octal(to []byte, n int64) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = '0' + byte(n&7)
		n >>= 3
	}
}

// HeaderSize is the number of bytes of a stream by which [Begins] decides.
const HeaderSize = block

// Begins reports whether head, the first bytes of a stream, may begin that of a tree: they are to
// the byte a header as a tree has it. Those that other programs write have times and owners.
func Begins(head []byte) bool {
	if len(head) < block {
		return false
	}
	text := func(from, to int) string { name, _, _ := strings.Cut(string(head[from:to]), "\x00"); return name }
	size, err := strconv.ParseInt(text(124, 136), 8, 64)
	h := ustar{
		name: text(0, 100), prefix: text(345, 500), executable: text(100, 108) == "0000755",
		size: size, typeflag: head[156],
	}
	return err == nil && strings.ContainsRune("05x", rune(h.typeflag)) && string(h.append(nil)) == string(head[:block])
}
