package middle

import (
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// mostAtOnce bounds the versions that arrive at the same time, and so many stalled ones may
// arrive beside them.
const mostAtOnce = 4

// A view is all that decides which versions to fetch, to list and to retire. Entries are
// ascending by version, at most one of each number, except for arriving.
type view struct {
	keep          int              // versions
	acceptRestart bool             // numbers may go back
	signed        bool             // the publisher says what exists, also if that is nothing
	doubt         error            // why the word of the publisher does not count, see [fetch.Count]
	offers        []distfile.Entry // that count, see package offers
	alone         []distfile.Entry // those of them that take no places of others
	complete      bool             // the answer of every upstream is known, or it counts as gone
	held          []distfile.Entry // in the data directory
	listed        []distfile.Entry // besides these
	arriving      []distfile.Entry // a fetch of them is under way
	stalled       []distfile.Entry // those of them that bring next to nothing
	failed        map[distfile.Entry]error
	needed        []distfile.Entry // older offers that held versions need by their labels

	// offered reports whether any upstream lists an entry, by either digest.
	offered func(distfile.Entry) bool

	// elsewhere is [fetch.Pool.Elsewhere].
	elsewhere func(e distfile.Entry, others ...distfile.Entry) bool
}

// next returns the version to begin: the newest of those to keep that is missing, if it is
// newer than all that are arriving but for stalled ones. An older version takes the place of
// a failed or stalled one. While there is any of these, a version that another upstream has
// comes first, and does not wait.
func (v view) next() (e distfile.Entry, ok bool) {
	moving := slices.DeleteFunc(slices.Clone(v.arriving), v.isStalled)
	if len(moving) >= mostAtOnce || v.isRestart() {
		return distfile.Entry{}, false
	}
	missing := slices.DeleteFunc(v.wanted(), func(e distfile.Entry) bool {
		return slices.ContainsFunc(v.held, e.Same) || v.arrives(e.Version)
	})
	if trouble := v.trouble(); trouble != nil {
		for _, e := range slices.Backward(missing) {
			if v.elsewhere(e, trouble...) {
				return e, true
			}
		}
	}
	if len(missing) == 0 {
		return distfile.Entry{}, false
	}
	e = missing[len(missing)-1]
	return e, !slices.ContainsFunc(moving, func(a distfile.Entry) bool { return a.Version > e.Version })
}

// trouble returns the offers that have failed or stall.
func (v view) trouble() (trouble []distfile.Entry) {
	for _, e := range v.offers {
		if v.failed[e] != nil || v.isStalled(e) {
			trouble = append(trouble, e)
		}
	}
	return trouble
}

// wanted returns the offers to keep, ascending: the newest, as many of those that take no places of
// others, and older ones that held versions need, without the versions that have failed or stall.
func (v view) wanted() (wanted []distfile.Entry) {
	left := map[bool]int{false: v.keep, true: v.keep}
	for _, e := range slices.Backward(v.offers) {
		alone := slices.ContainsFunc(v.alone, e.Same)
		if v.failed[e] != nil || v.isStalled(e) {
			continue
		}
		if left[alone] == 0 {
			if slices.ContainsFunc(v.needed, e.Same) {
				wanted = append(wanted, e)
			}
			continue
		}
		left[alone]--
		wanted = append(wanted, e)
	}
	slices.Reverse(wanted)
	return wanted
}

// isStalled reports whether e is arriving, and brings next to nothing.
func (v view) isStalled(e distfile.Entry) bool { return slices.Contains(v.stalled, e) }

// arrives reports whether a version of that number is arriving, maybe another file: that
// fetch has to end first.
func (v view) arrives(number shard.Version) bool {
	return slices.ContainsFunc(v.arriving, func(a distfile.Entry) bool { return a.Version == number })
}

// isBehind reports whether the newest version on offer is older than one that is held. Then
// nothing is retired: an old list may have been replayed, and a version that was served is
// not taken back on the word of upstreams that lag.
func (v view) isBehind() bool {
	return !v.acceptRestart && len(v.offers) > 0 && len(v.held) > 0 && newest(v.offers) < newest(v.held)
}

// isRestart reports whether the numbers on offer have begun again: none is newer than those
// that are held, and no upstream lists any of these. Then nothing is fetched either.
func (v view) isRestart() bool {
	return !v.acceptRestart && len(v.offers) > 0 && len(v.held) > 0 && newest(v.offers) <= newest(v.held) &&
		v.complete && !slices.ContainsFunc(v.held, v.offered)
}

// newest returns the number of the newest of entries.
func newest(entries []distfile.Entry) shard.Version { return entries[len(entries)-1].Version }

// surplus returns the stalled versions whose fetches have to end since there are too many.
func (v view) surplus() []distfile.Entry {
	stalled := slices.Clone(v.stalled)
	slices.SortFunc(stalled, func(a, b distfile.Entry) int { return int(b.Version - a.Version) })
	return stalled[min(len(stalled), mostAtOnce):]
}

// abandoned returns the arriving versions whose fetches have to end, since no upstream
// lists them.
func (v view) abandoned() []distfile.Entry {
	if v.isEmpty() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.arriving), v.offered)
}

// vanished returns the numbers of the versions that are here, held, listed or arriving, and do
// not count any more, as most upstreams do not list them. The newest come first.
func (v view) vanished() (numbers []shard.Version) {
	for _, e := range slices.Concat(v.held, v.listed, v.arriving) {
		counts := slices.ContainsFunc(v.offers, func(o distfile.Entry) bool { return o.Version == e.Version })
		if !counts || !v.offered(e) {
			numbers = append(numbers, e.Version)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	slices.Reverse(numbers)
	return numbers
}

// retired returns the held versions to retire: those that no upstream lists any more.
// Versions beyond those to keep are retired by the store. Another file of a number takes the
// place of a held one when it is here.
func (v view) retired() (numbers []shard.Version) {
	for _, e := range v.held {
		if v.isOver(e) && !v.isReplaced(e) {
			numbers = append(numbers, e.Version)
		}
	}
	return numbers
}

// unlisted returns the listed versions to take off the list. An arriving version stays,
// since it may be on offer by its other digest: the end of its fetch decides.
func (v view) unlisted() (numbers []shard.Version) {
	for _, e := range v.listed {
		old := v.complete && v.isOld(e)
		if !v.arrives(e.Version) && (old || v.isReplaced(e) || v.isOver(e)) {
			numbers = append(numbers, e.Version)
		}
	}
	return numbers
}

// needsDraft reports whether the draft of a version is of use.
func (v view) needsDraft(number shard.Version) bool {
	return !v.complete || len(v.offers) == 0 || v.isBehind() || v.isRestart() || v.arrives(number) ||
		slices.ContainsFunc(v.offers, func(o distfile.Entry) bool { return o.Version == number })
}

// isEmpty reports whether upstreams offer nothing: an origin that begins takes nothing back. The
// word of the publisher does.
func (v view) isEmpty() bool { return len(v.offers) == 0 && !v.signed }

// isOver reports whether no upstream lists e any more.
func (v view) isOver(e distfile.Entry) bool {
	return v.complete && !v.isEmpty() && !v.isBehind() && !v.isRestart() && !v.offered(e)
}

// isOld reports whether enough versions to keep are newer than e, and none needs it.
func (v view) isOld(e distfile.Entry) bool {
	if slices.ContainsFunc(v.needed, e.Same) {
		return false
	}
	newer := 0
	for _, o := range v.wanted() {
		if o.Version > e.Version && !slices.ContainsFunc(v.alone, o.Same) {
			newer++
		}
	}
	return newer >= v.keep
}

// isReplaced reports whether e is another file on offer now.
func (v view) isReplaced(e distfile.Entry) bool {
	return slices.ContainsFunc(v.offers, func(o distfile.Entry) bool {
		return o.Version == e.Version && o.Digest != e.Digest
	})
}
