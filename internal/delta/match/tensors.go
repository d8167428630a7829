package match

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/shardcast/shardcast/internal/delta"
)

// maxTensorHeader is the most bytes of a safetensors header that are read.
const maxTensorHeader = 16 << 20

// tensor is a tensor of a safetensors file, by its place in the file.
type tensor struct {
	name string
	part span
}

// readTensors returns the tensors of a part of a stream in their order, the first of which is the header, without
// a name; ok is false if the part is not a safetensors file: 8 bytes with the size of a JSON object, little-endian,
// the object, and the bytes of the tensors, each at the data_offsets of the member with its name.
func readTensors(s delta.Stream, part span) (tensors []tensor, ok bool, err error) {
	var head [9]byte
	if part.size() < int64(len(head)) {
		return nil, false, nil
	}
	if err := readFull(s, head[:], part.start); err != nil {
		return nil, false, err
	}
	size := binary.LittleEndian.Uint64(head[:8])
	if size > uint64(min(part.size()-8, maxTensorHeader)) || head[8] != '{' {
		return nil, false, nil
	}
	data := 8 + int64(size) // where the tensors begin
	in := &remembering{r: io.NewSectionReader(s, part.start+8, int64(size))}
	tensors, ok = parseTensors(json.NewDecoder(bufio.NewReader(in)), data, part.size())
	if in.err != nil {
		return nil, false, in.err
	}
	return tensors, ok, nil
}

// remembering keeps the error of a reader apart from what a parser makes of it.
type remembering struct {
	r   io.Reader
	err error
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// parseTensors reads a header of tensors whose bytes are those of the file from data on. They may not overlap.
func parseTensors(d *json.Decoder, data, size int64) (tensors []tensor, ok bool) {
	tensors = []tensor{{part: span{0, data}}}
	seen := map[string]bool{}
	if _, err := d.Token(); err != nil { // {
		return nil, false
	}
	for d.More() {
		token, err := d.Token()
		name, isName := token.(string)
		if err != nil || !isName || name == "" || seen[name] {
			return nil, false
		}
		seen[name] = true
		var member struct {
			Offsets []int64 `json:"data_offsets"`
		}
		if err := d.Decode(&member); err != nil {
			return nil, false
		}
		if name == "__metadata__" {
			continue
		}
		if len(member.Offsets) != 2 {
			return nil, false
		}
		start, end := member.Offsets[0], member.Offsets[1]
		if start < 0 || end < start || end > size-data {
			return nil, false
		}
		tensors = append(tensors, tensor{name, span{data + start, data + end}})
	}
	return tensors, ends(d) && apart(tensors)
}

// ends says whether the object that has been read to its last member is all that there is.
func ends(d *json.Decoder) bool {
	if _, err := d.Token(); err != nil { // }
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

// apart puts the tensors into their order, and says whether none overlap.
func apart(tensors []tensor) bool {
	slices.SortStableFunc(tensors, func(a, b tensor) int {
		return cmp.Or(cmp.Compare(a.part.start, b.part.start), cmp.Compare(a.part.end, b.part.end))
	})
	for i := 1; i < len(tensors); i++ {
		if tensors[i].part.start < tensors[i-1].part.end {
			return false
		}
	}
	return true
}

// tensors predicts each tensor from the one with its name, and the header from the header.
func (m *matcher) tensors(old, now []tensor, from, to span) {
	places := make(map[string]span, len(old))
	for _, t := range old {
		places[t.name] = t.part
	}
	for _, t := range now {
		place := places[t.name]
		place = span{from.start + place.start, from.start + place.end}
		m.add(place, span{to.start + t.part.start, to.start + t.part.end}, min(place.size(), t.part.size()))
	}
}

func readFull(from io.ReaderAt, data []byte, offset int64) error {
	n, err := from.ReadAt(data, offset)
	if n == len(data) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
