// Package signal wakes all goroutines that wait for a change.
package signal

import "sync"

// A Signal announces changes of a value that its owner guards by a lock of its own. The
// zero value is ready. Its methods may be called by any goroutine, with any lock held:
// they take no lock but the signal's, and never wait.
//
// To miss no change, a goroutine calls Wait before it looks at the value, and then
// receives from the channel.
type Signal struct {
	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed by the next Raise; nil while no goroutine waits
}

// Wait returns a channel that the next Raise closes.
func (s *Signal) Wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// Raise closes the channels that Wait has returned; later calls of Wait return another one.
func (s *Signal) Raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
