package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// mostNested bounds how deep the values of unknown members are nested.
const mostNested = 100

// source reads up to a number of bytes, and notes why it ended.
type source struct {
	r    io.Reader
	left int64 // below 0 if there is more
	err  error // of the reader
}

// Read reads on.
func (s *source) Read(p []byte) (int, error) {
	if s.left < 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left+1)])
	s.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// decodeObject reads the members of a JSON object, and nothing after it, each by its name
// into its place; the last one of a name counts. A struct would also take names that differ
// in case. Of other members it keeps nothing.
func decodeObject(d *json.Decoder, places map[string]any) error {
	if err := expect(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		place, known := places[name.(string)] //nolint:forcetypeassert // as the decoder promises
		bounded, isBounded := place.(interface{ decode(d *json.Decoder) error })
		switch {
		case !known:
			err = skip(d)
		case isBounded:
			err = bounded.decode(d)
		default:
			err = d.Decode(place)
		}
		if err != nil {
			return fmt.Errorf("%.80q: %w", name, err)
		}
	}
	if _, err := d.Token(); err != nil { // the end
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

func expect(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err == nil && t != want {
		err = fmt.Errorf("%.80q in place of %q", fmt.Sprint(t), want)
	}
	return err
}

// skip reads one value.
func skip(d *json.Decoder) error {
	for nested := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			nested++
		case json.Delim('}'), json.Delim(']'):
			nested--
		}
		switch {
		case nested == 0:
			return nil
		case nested > mostNested:
			return errors.New("nested too deep")
		}
	}
}

// digests are those of shards.
type digests []Digest

// decode reads an array of digests, or null. It stops when there are more than [MaxShards].
func (to *digests) decode(d *json.Decoder) error {
	*to = nil
	return decodeArray(d, func() error {
		if len(*to) == MaxShards {
			return fmt.Errorf("more than %d", MaxShards)
		}
		var digest Digest
		err := d.Decode(&digest)
		*to = append(*to, digest)
		return err
	})
}

// decodeArray reads an array, or null: it calls decode for each element.
func decodeArray(d *json.Decoder, decode func() error) error {
	t, err := d.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return fmt.Errorf("%.80q in place of an array", fmt.Sprint(t))
	}
	for d.More() {
		if err := decode(); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// labels are those of a version.
type labels map[string]string

// decode reads an object of strings, or null. It stops when there are more than maxLabels.
func (to *labels) decode(d *json.Decoder) error {
	*to = nil
	t, err := d.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("%.80q in place of an object", fmt.Sprint(t))
	}
	*to = make(labels)
	for d.More() {
		if len(*to) == maxLabels {
			return fmt.Errorf("more than %d", maxLabels)
		}
		name, err := d.Token()
		if err != nil {
			return err
		}
		value, err := d.Token()
		if err != nil {
			return err
		}
		text, ok := value.(string)
		if !ok {
			return fmt.Errorf("%.80q is no text", fmt.Sprint(value))
		}
		(*to)[name.(string)] = text //nolint:forcetypeassert // as the decoder promises
	}
	_, err = d.Token()
	return err
}
