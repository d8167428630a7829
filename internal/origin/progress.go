package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/shard"
)

// Phases of a broadcast, in their order.
const (
	Waiting   = "waiting" // for other processes that publish into the directory
	Cutting   = "cutting"
	Syncing   = "syncing"   // all has been read; the last of it goes to the disk
	Comparing = "comparing" // with earlier versions, to make deltas
)

// Progress is how far a broadcast has come. Sizes are in bytes, speeds in bytes per second.
type Progress struct {
	Version shard.Version // 0 while it waits
	Phase   string        // empty when it is over
	Size    int64         // or [shard.UnknownSize]
	Done    int64         // that have been read
	Elapsed time.Duration
	Speed   float64 // of the last five seconds, and in the end of all
}

// tally counts the bytes of a broadcast as they are read, and reports them beside it.
type tally struct {
	from   io.Reader
	report func(Progress)
	start  time.Time
	done   atomic.Int64
	pace   rank.Pace // of the goroutine that reports

	mu      sync.Mutex // guards what follows
	version shard.Version
	phase   string
	size    int64
}

// newTally returns a tally of the broadcast of src, which begins now.
func newTally(src *source) *tally {
	return &tally{from: src, report: src.report, start: time.Now(), phase: Waiting, size: src.size}
}

// begin notes that the version is being cut.
func (t *tally) begin(version shard.Version) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version, t.phase = version, Cutting
}

// compare notes that the version is being compared with earlier ones.
func (t *tally) compare() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = Comparing
}

// Read reads from the source.
func (t *tally) Read(p []byte) (int, error) {
	n, err := t.from.Read(p)
	t.done.Add(int64(n))
	if errors.Is(err, io.EOF) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.phase, t.size = Syncing, t.done.Load()
	}
	return n, err
}

// follow reports four times a second until the returned function is called, which reports once
// more and returns that.
func (t *tally) follow() (end func() Progress) {
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		ticker := time.NewTicker(rank.Tick)
		defer ticker.Stop()
		for before := int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			done := t.done.Load()
			t.pace.Add(done - before)
			before = done
			p := t.progress()
			p.Speed = t.pace.Speed()
			t.report(p)
		}
	})
	return func() Progress {
		stop()
		following.Wait()
		p := t.progress()
		t.report(p)
		p.Phase = ""
		return p
	}
}

// progress returns the progress, with the speed of all.
func (t *tally) progress() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	done, elapsed := t.done.Load(), time.Since(t.start)
	return Progress{
		Version: t.version, Phase: t.phase, Size: t.size, Done: done,
		Elapsed: elapsed, Speed: rank.Speed(done, elapsed),
	}
}

const (
	// logFirst is the time after which a broadcast takes long enough for a log line.
	logFirst = time.Second

	// logEvery is the time between two such lines.
	logEvery = 10 * time.Second
)

// logProgress returns a callback that logs a line about src now and then.
func (o *Origin) logProgress(src *source) func(Progress) {
	next := logFirst
	return func(now Progress) {
		if now.Elapsed < next {
			return
		}
		next = now.Elapsed + logEvery
		var facts []any
		if now.Version != 0 {
			facts = append(facts, "version", now.Version.String())
		}
		facts = append(facts, "file", src.path, "phase", now.Phase)
		if now.Size > 0 {
			facts = append(facts, "percent", fmt.Sprintf("%.1f", 100*float64(now.Done)/float64(now.Size)))
		}
		facts = append(facts, "bytes", now.Done)
		if now.Size >= 0 {
			facts = append(facts, "size", now.Size)
		}
		o.logger.Info("publishing", append(facts, "speed", int64(now.Speed))...)
	}
}
