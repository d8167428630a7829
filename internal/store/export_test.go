package store

import "errors"

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

// ParseSettings reads the text of settings.json.
func ParseSettings(text []byte) (Settings, error) { return parseSettings(text) }
