// Package hfdelta reads, from the index that Hugging Face's libraries put beside the weights of a model, which
// version of a run the files are, and which one they are a delta of. It refuses to know files.
//
//	{"metadata": {"version": 7, "base_version": 6, "delta_encoding": "xor"}, ...}
//
// A number may be a text of digits. Without a delta_encoding, which is xor or overwrite, the version needs no
// other. Version 0 is the state that a run begins with: readers have it, and it is never published.
package hfdelta

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shardcast/shardcast/internal/lineage"
)

const (
	// FileName is the name of an index in its directory.
	FileName = "model.safetensors.index.json"

	// MaxSize bounds the bytes of an index, which is parsed at once.
	MaxSize = 16 << 20
)

// Parse returns the number of a version, from 1, and that of the one that it needs, which is lower, or 0 for
// none, from the text of an index.
func Parse(text []byte) (version, after int64, err error) {
	var index struct {
		Metadata struct {
			Version  number `json:"version"`
			Base     number `json:"base_version"`
			Encoding string `json:"delta_encoding"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return 0, 0, fmt.Errorf("its metadata cannot be read: %w", err)
	}
	m := index.Metadata
	switch {
	case m.Version.value == 0:
		return 0, 0, errors.New("its metadata has no version from 1 on")
	case m.Encoding == "":
		return m.Version.value, 0, nil
	case m.Encoding != "xor" && m.Encoding != "overwrite":
		return 0, 0, fmt.Errorf("its delta_encoding is %.80q, want xor or overwrite", m.Encoding)
	case !m.Base.given:
		return 0, 0, errors.New("it has a delta_encoding, and no base_version")
	case m.Base.value >= m.Version.value:
		return 0, 0, fmt.Errorf("its base_version is %d, and not below its version %d", m.Base.value, m.Version.value)
	}
	return m.Version.value, m.Base.value, nil
}

// number is a number in the metadata, as one or as digits.
type number struct {
	value int64
	given bool
}

// UnmarshalJSON reads it.
func (n *number) UnmarshalJSON(text []byte) (err error) {
	if string(text) == "null" {
		return nil
	}
	digits := string(text)
	if digits[0] == '"' {
		if err := json.Unmarshal(text, &digits); err != nil {
			return err
		}
	}
	n.given = true
	n.value, err = lineage.ParseNumber(digits)
	return err
}
