package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// unfinished answers with what is known of the newest version that is being cut, here
// or somewhere above, a line at a time as it becomes known, see package shard. Where
// there is none it waits for one if the client prefers that (RFC 7240, section 4.3),
// and says so by 204.
func (h *handler) unfinished(w http.ResponseWriter, r *http.Request) error {
	v, changed := h.board.Unfinished()
	if patience, ok := h.mayHold(r); ok {
		heeded(w, patience)
		timer := time.NewTimer(patience)
		defer timer.Stop()
		for ended := false; v == nil && !ended; {
			select {
			case <-changed:
				v, changed = h.board.Unfinished()
			case <-timer.C:
				ended = true
			case <-r.Context().Done():
				ended = true
			case <-h.over:
				ended = true
			}
		}
	}
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return h.tell(w, r, v)
}

// tell answers with what becomes known of v, until all is, or no more comes.
func (h *handler) tell(w http.ResponseWriter, r *http.Request, v *relay.Version) error {
	line, err := v.Outline().Encode()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect lines otherwise
	if v.Tier > 0 {
		w.Header().Set(tierHeader, strconv.Itoa(v.Tier))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	out := http.NewResponseController(w)
	for had := 0; ; {
		growth := v.Growth(had)
		had += len(growth.Shards)
		for _, k := range growth.Shards {
			line = append(line, encode(k)...)
		}
		if growth.Digest != (shard.Digest{}) {
			line = append(line, encode(shard.Known{Digest: growth.Digest})...)
		}
		// Who has gone is noticed by the context.
		_, _ = w.Write(line)
		line = line[:0]
		if growth.Digest != (shard.Digest{}) || growth.Ended {
			return nil
		}
		_ = out.Flush()
		select {
		case <-growth.Changed:
		case <-r.Context().Done():
			return nil
		case <-h.over:
			return nil
		}
	}
}

// encode writes what is known as a line.
func encode(k shard.Known) []byte {
	line, _ := k.Encode() // numbers and digests can always be written
	return line
}

const (
	// cutEvery is how often the directory is looked at for a version that is being
	// cut. The system could tell us, but not on every file system, and to look into
	// an empty directory costs next to nothing.
	cutEvery = 100 * time.Millisecond

	// growEvery is how often such a version is looked at.
	growEvery = 20 * time.Millisecond
)

// followCuts puts on the board what is being cut in the data directory, by whichever
// process, until ctx ends.
func (h *handler) followCuts(ctx context.Context) {
	ticker := time.NewTicker(cutEvery)
	defer ticker.Stop()
	failing := false
	for {
		err := h.followCut(ctx)
		if err != nil && !failing {
			h.logger.Error("data directory failed", "task", "follow a cut", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// followCut puts what is being cut now, if anything is, on the board until it is on
// offer, or has failed, or ctx ends.
func (h *handler) followCut(ctx context.Context) error {
	u, err := h.store.Unfinished()
	if u == nil || err != nil {
		return err
	}
	defer u.Close() //nolint:errcheck // of what was only read
	v := h.board.BeginUnfinished(u.Outline, 0, relay.Files(u.Open))
	defer v.End()
	know := func(number int, d shard.Digest) {
		v.Shard(number).Verify()
		v.Know(number, d)
	}
	ticker := time.NewTicker(growEvery)
	defer ticker.Stop()
	for growing := true; growing; {
		growing = u.Growing() // before the rest is asked for, of which nothing is missed then
		known, err := u.Read()
		if err != nil {
			return err
		}
		for _, k := range known {
			know(k.Shard, k.Digest)
		}
		if m, err := u.Published(); err == nil {
			for i, d := range m.Shards {
				know(i+1, d)
			}
			v.Finish(m.Digest)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
	return nil
}
