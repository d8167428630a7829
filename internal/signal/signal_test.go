package signal_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/signal"
)

// raised reports whether c is closed.
func raised(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRaiseClosesTheChannelsBeforeItAlone(t *testing.T) {
	var s signal.Signal
	s.Raise()
	first, same := s.Wait(), s.Wait()
	assert.False(t, raised(first), "an earlier Raise does not count")
	s.Raise()
	assert.True(t, raised(first))
	assert.True(t, raised(same))
	second := s.Wait()
	assert.False(t, raised(second))
	s.Raise()
	assert.True(t, raised(second))
}

func TestRaiseWakesAllThatWait(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var s signal.Signal
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() { <-s.Wait() })
		}
		synctest.Wait()
		s.Raise()
		waiting.Wait()
	})
}

func TestNoChangeIsMissed(*testing.T) {
	const changes = 1000
	var s signal.Signal
	var mu sync.Mutex // guards value
	value := 0
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				changed := s.Wait()
				mu.Lock()
				last := value == changes
				mu.Unlock()
				if last {
					return
				}
				<-changed
			}
		})
	}
	for range changes {
		mu.Lock()
		value++
		mu.Unlock()
		s.Raise()
	}
	group.Wait()
}
