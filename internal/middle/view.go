package middle

import (
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// mostAtOnce bounds the versions that arrive at the same time.
const mostAtOnce = 4

// A view is all that decides which versions to fetch, to list and to retire. Entries are
// ascending by version, at most one of each number, except for arriving.
type view struct {
	keep     int              // versions
	offers   []distfile.Entry // by the upstreams
	complete bool             // offers include the answer of every upstream, or it counts as gone
	held     []distfile.Entry // in the data directory
	listed   []distfile.Entry // besides these
	arriving []distfile.Entry // a fetch of them is under way
	failed   map[distfile.Entry]error
}

// next returns the version to begin: the newest of those to keep that is missing, if it is
// newer than all that are arriving. An older version takes the place of a failed one.
func (v view) next() (e distfile.Entry, ok bool) {
	if len(v.arriving) >= mostAtOnce {
		return distfile.Entry{}, false
	}
	kept := 0
	for _, e := range slices.Backward(v.offers) {
		if v.failed[e] != nil {
			continue
		}
		if !slices.ContainsFunc(v.held, e.Same) && !v.arrives(e.Version) {
			newer := !slices.ContainsFunc(v.arriving, func(a distfile.Entry) bool { return a.Version > e.Version })
			return e, newer
		}
		if kept++; kept == v.keep {
			break
		}
	}
	return distfile.Entry{}, false
}

// arrives reports whether a version of that number is arriving, maybe another file: that
// fetch has to end first.
func (v view) arrives(number shard.Version) bool {
	return slices.ContainsFunc(v.arriving, func(a distfile.Entry) bool { return a.Version == number })
}

// abandoned returns the arriving versions whose fetches have to end, since no upstream
// lists them. Offered is [fetch.Pool.Offered], which knows a version by both digests.
func (v view) abandoned(offered func(distfile.Entry) bool) []distfile.Entry {
	if len(v.offers) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.arriving), offered)
}

// retired returns the held versions to retire.
func (v view) retired() (numbers []shard.Version) {
	for _, e := range v.held {
		if v.isOver(e) {
			numbers = append(numbers, e.Version)
		}
	}
	return numbers
}

// unlisted returns the listed versions to take off the list. An arriving version stays,
// since it may be on offer by its other digest: the end of its fetch decides.
func (v view) unlisted() (numbers []shard.Version) {
	newest := v.offers[max(0, len(v.offers)-v.keep):]
	for _, e := range v.listed {
		old := v.complete && len(v.offers) > 0 && !slices.ContainsFunc(newest, e.Same)
		if !v.arrives(e.Version) && (old || v.isOver(e)) {
			numbers = append(numbers, e.Version)
		}
	}
	return numbers
}

// needsDraft reports whether the draft of a version is of use.
func (v view) needsDraft(number shard.Version) bool {
	return !v.complete || len(v.offers) == 0 || v.arrives(number) ||
		slices.ContainsFunc(v.offers, func(o distfile.Entry) bool { return o.Version == number })
}

// isOver reports whether e is another file on offer now, or not on offer any more.
func (v view) isOver(e distfile.Entry) bool {
	if len(v.offers) == 0 {
		return false
	}
	replaced := slices.ContainsFunc(v.offers, func(o distfile.Entry) bool {
		return o.Version == e.Version && o.Digest != e.Digest
	})
	return replaced || v.complete && !slices.ContainsFunc(v.offers, e.Same)
}
