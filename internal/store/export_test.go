package store

import (
	"errors"

	"github.com/shardcast/shardcast/internal/shard"
)

// OnStep has f called before each change that a writer of s makes to the directory.
func (s *Store) OnStep(f func()) { s.step = f }

// Abandon gives back the locks of w, as the end of its process does.
func (w *Writer) Abandon() error {
	var err error
	for _, lock := range w.locks {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// ParseState reads the text of state.json.
func ParseState(text []byte) (last shard.Version, moving []shard.Version, err error) {
	st, err := parseState(text)
	return st.Last, st.Moving, err
}

// Seq returns the number of the last release in the text of state.json.
func Seq(text []byte) (uint64, error) {
	st, err := parseState(text)
	return st.Seq, err
}
