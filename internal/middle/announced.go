package middle

import (
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// announced is when each version on offer was first on offer. The zero value knows none.
type announced struct {
	mu sync.Mutex // guards at
	at map[distfile.Entry]time.Time
}

// note notes the versions that are on offer now.
func (a *announced) note(offers []distfile.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	at := make(map[distfile.Entry]time.Time, len(offers))
	for _, e := range offers {
		e.Count = 0
		at[e] = now
		if first, ok := a.at[e]; ok {
			at[e] = first
		}
	}
	a.at = at
}

// since returns for how long v has been on offer by the first of digests that is on offer.
func (a *announced) since(v shard.Version, digests ...shard.Digest) (dur time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range digests {
		if first, ok := a.at[distfile.Entry{Version: v, Digest: d}]; ok {
			return time.Since(first), true
		}
	}
	return 0, false
}
