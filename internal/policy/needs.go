package policy

import (
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/lineage"
)

// Needs returns those of offers, which are ascending, that the newest ones and pinned ones need by
// their labels, and that a directory with these settings keeps beside them. Labels returns those of
// a version, and false if they are not known now: nothing is needed by that version, or for the sake
// of older ones. It is called for no version twice in one call.
func (s Settings) Needs(
	offers []distfile.Entry, labels func(distfile.Entry) (map[string]string, bool),
) []distfile.Entry {
	type answer struct {
		labels map[string]string
		ok     bool
	}
	asked := make(map[int]answer)
	of := func(i int) (map[string]string, bool) {
		a, ok := asked[i]
		if !ok {
			a.labels, a.ok = labels(offers[i])
			asked[i] = a
		}
		return a.labels, a.ok
	}
	first := max(0, len(offers)-s.MaxVersions)
	needed := make(map[int]bool)
	for i, e := range slices.Backward(offers) {
		if i < first && !slices.Contains(s.Pinned, e.Version) {
			continue
		}
		at := i
		for range s.keptChain() - 1 {
			needing, ok := of(at)
			need, needs := lineage.NeedOf(needing)
			if !ok || !needs {
				break
			}
			if at = before(at, need, of); at < 0 {
				break
			}
			needed[at] = true
		}
	}
	var older []distfile.Entry
	for i, e := range offers {
		if needed[i] && i < first {
			older = append(older, e)
		}
	}
	return older
}

// before returns the newest version before i that has the place p, and -1 if there is none, or one
// after it has labels that are not known.
func before(i int, p lineage.Place, of func(int) (map[string]string, bool)) int {
	for i--; i >= 0; i-- {
		labels, ok := of(i)
		if !ok {
			return -1
		}
		if at, ok := lineage.PlaceOf(labels); ok && at == p {
			return i
		}
	}
	return -1
}
