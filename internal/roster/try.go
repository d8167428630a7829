package roster

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Job is something to get from one server of several. Its functions are called with no
// lock held.
type Job struct {
	// May reports whether s is to be asked: it has what the job is about, and was not
	// refused.
	May func(s *remote.Server) bool

	// Do asks s. Its errors are [Setback], those of package remote, or others, which count
	// as failures of s.
	Do func(s *remote.Server) error

	// First is asked before the others, or nil.
	First *remote.Server

	// Refuse has May refuse s from now on, because of an error that is a [Setback] Never.
	Refuse func(ctx context.Context, s *remote.Server, err error)

	// Gone finds out whether s has what the job is about no more, after a 404.
	Gone func(ctx context.Context, s *remote.Server) bool

	// Again is called before each attempt but the first.
	Again func(ctx context.Context)

	// Failed returns the error for a job that no server has done, of the errors of the last
	// attempt and what busy servers have said.
	Failed func(errs []error) error

	// Logger has the attributes of the job.
	Logger *slog.Logger
}

// A Setback is an error of a try that says by itself what is to follow.
type Setback struct {
	Err  error
	What What

	// Next is asked next, or nil: to move a transfer, or to let one server go on alone.
	Next *remote.Server
}

// What is to follow a [Setback].
type What int

const (
	// Moved says that the try got somewhere, so the job is continued at once, and has all its
	// attempts again. The server failed.
	Moved What = iota

	// Spared is Moved of a server that did nothing wrong.
	Spared

	// Never has the server not asked again for the job.
	Never

	// Later says that the server lists the version, and may get the rest of it: such failures
	// are no attempts, unless nothing has come from any server for 10 min.
	Later

	// Stop ends the job: no server can help, for it is an error of this machine's.
	Stop
)

// Error returns the text of Err.
func (e *Setback) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Setback) Unwrap() error { return e.Err }

// Wrong is the error of a server whose answer is not what was asked for: it matches
// [shard.ErrIntegrity], and is a [Setback] Never.
func Wrong(err error) error {
	return &Setback{Err: remote.Matching(err, shard.ErrIntegrity), What: Never}
}

// Is reports whether err is a [Setback] of the kind.
func Is(err error, what What) bool {
	var s *Setback
	return errors.As(err, &s) && s.What == what
}

// ErrNone means that no server is left to be asked now.
var ErrNone = errors.New("no upstream left")

// Try asks the servers of j one after the other until one does it, as the package comment
// says. Errors are those of j.Failed, a [Setback] Stop, or what ended ctx.
func (r *Roster) Try(ctx context.Context, j Job) error {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed, got, err := r.Attempt(ctx, j)
		j.First = nil
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, ErrNone):
			return err
		case got:
			attempt = 0
			continue
		}
		again, err := r.await(ctx, j, start, failed != nil)
		if err != nil {
			return err
		}
		if again {
			attempt--
			continue
		}
		if failed == nil || attempt >= r.opts.Attempts && !r.isToCome(failed, start) {
			return j.Failed(slices.Concat(failed, r.Busy(j).Said))
		}
		if attempt == r.opts.Attempts {
			j.Logger.Info("waiting for upstreams to have what they list", "err", errors.Join(failed...))
		}
		wait := backoff.Jitter(r.opts.Waits.After(attempt))
		j.Logger.Debug("trying again", "attempt", attempt, "wait", wait, "err", errors.Join(failed...))
		if err := Sleep(ctx, wait, nil); err != nil {
			return err
		}
		j.Again(ctx)
	}
}

// isToCome reports whether servers whose failures these are may get what they lack, in a
// job that began at start.
func (r *Roster) isToCome(failed []error, start time.Time) bool {
	lacks := func(err error) bool { return Is(err, Later) }
	return slices.ContainsFunc(failed, lacks) && r.Flow.IsAlive(start)
}

// await waits for servers of j that are busy, and reports whether to ask again. If others
// have failed, those are given some time as well.
func (r *Roster) await(ctx context.Context, j Job, start time.Time, failed bool) (again bool, err error) {
	busy := r.Busy(j)
	wait, freed := busy.Wait, busy.Freed
	switch {
	case wait == 0: // unless there is one that was busy, and is not any more
		return !failed && slices.ContainsFunc(r.Ever(), j.May), nil
	case !r.Flow.IsAlive(start):
		return false, nil
	case failed: // they are not asked again whenever something is freed
		wait, freed = max(wait, r.opts.Waits.FastWait), nil
	}
	return true, Sleep(ctx, wait, freed)
}

// Attempt asks each server that j approves of and that is not busy, until one does the
// job or there is an error that no server can mend. Otherwise it returns [ErrNone], how
// each of them failed, and whether one got somewhere.
func (r *Roster) Attempt(ctx context.Context, j Job) (failed []error, got bool, err error) {
	tried := make(map[*remote.Server]bool)
	for {
		s := j.First
		if j.First = nil; s == nil {
			s = r.Pick(func(s *remote.Server) bool { return !tried[s] && j.May(s) && r.Free(s) })
		}
		if s == nil {
			return failed, got, ErrNone
		}
		m := r.member(s)
		had, ok := m.claim()
		if !ok {
			continue
		}
		tried[s] = true
		err := j.Do(s)
		isOver := err == nil || ctx.Err() != nil || Is(err, Stop)
		if !isOver && r.judge(ctx, j, m, had, err) {
			failed = append(failed, err)
		}
		m.release(err) // now, so that no worker asks it before it is known to be busy
		if isOver {
			return nil, false, err
		}
		var setback *Setback
		if errors.As(err, &setback) {
			got = got || setback.What == Moved || setback.What == Spared
			j.First = setback.Next
		}
	}
}

// judge notes that a server, which was sending had shards before, has failed with err, and
// reports whether that counts.
func (r *Roster) judge(ctx context.Context, j Job, m *member, had int, err error) (counts bool) {
	var busy *remote.Busy
	name := m.server.Name
	switch {
	case errors.As(err, &busy):
		r.opts.Metrics.Failed(m.number, metrics.Busy)
		j.Logger.Debug("upstream is busy", "upstream", name, "wait", m.putOff(busy, had), "err", err)
		return false
	case Is(err, Never):
		j.Refuse(ctx, m.server, err)
		return false
	case Is(err, Spared):
		j.Logger.Debug("transfer moved", "upstream", name, "err", err)
		return false
	case errors.Is(err, fs.ErrNotExist) && j.Gone(ctx, m.server):
		return false
	}
	if Is(err, Later) {
		j.Logger.Debug("upstream does not have it yet", "upstream", name, "err", err)
		return true
	}
	r.opts.Metrics.Failed(m.number, metrics.Broken)
	j.Logger.Debug("upstream failed", "upstream", name, "err", err)
	r.rank.Failed(m.index)
	m.answered(err)
	return !Is(err, Moved)
}

// Pick draws one of the servers that ok approves of, of those that are idle and good if
// there are any, or returns nil.
func (r *Roster) Pick(ok func(*remote.Server) bool) *remote.Server {
	all := r.all()
	// Servers that have joined since are in the ranking already.
	i := r.rank.Pick(func(i int) bool { return i < len(all) && isIdle(all[i], r.rank) && ok(all[i].server) })
	if i < 0 {
		i = r.rank.Pick(func(i int) bool { return i < len(all) && ok(all[i].server) })
	}
	if i < 0 {
		return nil
	}
	return all[i].server
}

// Idle returns the good servers that no request is sent to.
func (r *Roster) Idle() (idle []*remote.Server) {
	for _, m := range r.all() {
		if isIdle(m, r.rank) {
			idle = append(idle, m.server)
		}
	}
	return idle
}

func isIdle(m *member, ranking *rank.Ranking) bool {
	wait, isAsked, _ := m.wait()
	return wait == 0 && !isAsked && ranking.Good(m.index)
}

// Free reports whether s may be asked now, by what it has said.
func (r *Roster) Free(s *remote.Server) bool {
	m := r.member(s)
	if m == nil {
		return false
	}
	wait, _, _ := m.wait()
	return wait == 0
}

// Sends notes that s answers one more request for a shard, until the caller calls ended.
func (r *Roster) Sends(s *remote.Server) (ended func()) {
	m := r.member(s)
	if m == nil {
		return func() {}
	}
	m.sends(1)
	return func() { m.sends(-1) }
}

// A BusyPart is the servers of a job that are busy.
type BusyPart struct {
	// Wait is how long all of them are busy, or 0 if none is.
	Wait time.Duration

	// Freed is closed when one may be asked.
	Freed <-chan struct{}

	// Said are their last answers.
	Said []error
}

// Busy returns the servers of j that are busy.
func (r *Roster) Busy(j Job) BusyPart {
	busy := BusyPart{Freed: r.freed.Wait()}
	for _, m := range r.all() {
		if !j.May(m.server) {
			continue
		}
		wait, _, said := m.wait()
		if wait == 0 {
			continue
		}
		if busy.Wait == 0 || wait < busy.Wait {
			busy.Wait = wait
		}
		busy.Said = append(busy.Said, said)
	}
	return busy
}

// Sleep waits, or until freed is closed. It returns what ended ctx.
func Sleep(ctx context.Context, wait time.Duration, freed <-chan struct{}) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-freed:
		return nil
	case <-timer.C:
		return nil
	}
}
