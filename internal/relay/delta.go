package relay

import "github.com/shardcast/shardcast/internal/shard"

// ExpectDelta says that the delta from base may come here, so that readers wait for it.
func (v *Version) ExpectDelta(base shard.Version) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deltas == nil {
		v.deltas = make(map[shard.Version]*Version)
	}
	v.deltas[base] = nil
}

// BringDelta says that the delta from base arrives, and no other one.
func (v *Version) BringDelta(base shard.Version, delta *Version) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deltas = map[shard.Version]*Version{base: delta}
	v.brought.Raise()
}

// NoDelta says that no delta arrives, or not the rest of it.
func (v *Version) NoDelta() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deltas = nil
	v.brought.Raise()
}

// Delta returns the delta from base as it is arriving, or nil, whether it may come, and a channel that is closed
// when that is known better.
func (v *Version) Delta(base shard.Version) (delta *Version, expected bool, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delta, expected = v.deltas[base]
	return delta, expected, v.brought.Wait()
}
