package follow

import (
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Gap is a version that a follow by lineage does not deliver, since one that it needs is not on offer.
type Gap struct {
	Run     string
	Version shard.Version // the first that is held up
	Missing string        // the number in the run that it, or one that it needs, needs
}

// descent decides which version of a run comes next, from the labels of the versions on offer. Like a
// [choice] it asks no server, reads no clock, and touches no file.
type descent struct {
	labels map[distfile.Entry]map[string]string // those of a place in a run that are known
}

// plan is what a descent decides.
type plan struct {
	// unknown is a version whose labels have to be known first. Then the plan has nothing else.
	unknown distfile.Entry

	run   string         // that is followed
	start distfile.Entry // where it begins, if the record has not begun it; zero if it cannot
	begun bool           // the record has

	order   []distfile.Entry // the next version first, and then full ones that may come instead
	gap     Gap              // zero if there is none
	without distfile.Entry   // one without a place in a run, or zero
}

// plan returns what comes next after the versions of the record, with offers that are ascending.
func (d *descent) plan(r *record.Record, offers []distfile.Entry) plan {
	s := search{descent: d, record: r, offers: offers}
	s.chooseRun()
	if s.unknown == (distfile.Entry{}) && s.found {
		s.chooseNext()
	}
	if s.unknown != (distfile.Entry{}) {
		return plan{unknown: s.unknown}
	}
	return s.plan
}

// search makes a plan. It stops at the first version whose labels are not known.
type search struct {
	*descent
	plan

	record *record.Record
	offers []distfile.Entry
	found  bool // a run

	at     map[lineage.Place][]int           // offers that have a place, by their index, or nil before they are indexed
	dark   []int                             // those whose labels are not known, likewise
	held   map[lineage.Place][]shard.Version // those that are here and may be what another needs
	firsts map[int]lead                      // what [search.first] has found, of offers by their index
}

// lead is what has to come first for a version: it, or one that it needs. Or a number is missing.
type lead struct {
	entry   distfile.Entry
	missing string
}

// labelsOf returns the labels of a version on offer, and false if they are not known, which it notes.
func (s *search) labelsOf(e distfile.Entry) (map[string]string, bool) {
	if labels, ok := s.labels[e]; ok {
		return labels, true
	}
	for _, f := range s.record.Held {
		if f.Is(e) {
			return f.Manifest.Labels, true
		}
	}
	s.unknown = e
	return nil, false
}

// chooseRun finds out which run is followed: that of the record, until a full version of another one is
// newer than all of it. Of a new run the newest full version is the first.
func (s *search) chooseRun() {
	for _, e := range slices.Backward(s.offers) {
		if s.record.Run != nil && e.Version <= s.record.Last {
			break
		}
		labels, ok := s.labelsOf(e)
		if !ok {
			return
		}
		place, ok := lineage.PlaceOf(labels)
		if !ok {
			s.without = e
			continue
		}
		if s.record.Run != nil && place.Run == *s.record.Run {
			break
		}
		if !s.found && s.record.Run == nil {
			s.run, s.found = place.Run, true // unless an older one can begin
		}
		if _, needs := lineage.NeedOf(labels); !needs {
			s.run, s.start, s.found = place.Run, e, true
			return
		}
	}
	if s.record.Run != nil {
		s.run, s.found, s.begun = *s.record.Run, true, true
	}
}

// chooseNext finds the first version of the run that has all that it needs. Behind a gap that is the
// newest full one.
func (s *search) chooseNext() {
	var full []distfile.Entry // newer ones
	var next distfile.Entry
	for i := s.candidate(); i < len(s.offers); i++ {
		e := s.offers[i]
		labels, known := s.labelsOf(e)
		switch {
		case known:
		case next.Version != 0 && s.gap.Missing == "": // it holds up nothing
			s.unknown = distfile.Entry{}
			continue
		default:
			return
		}
		place, ok := lineage.PlaceOf(labels)
		_, needs := lineage.NeedOf(labels)
		if !ok || place.Run != s.run || next.Version != 0 && needs || s.has(e, place) {
			continue
		}
		if next.Version != 0 {
			full = append(full, e)
			continue
		}
		f := s.first(i, labels)
		switch {
		case s.unknown.Version != 0:
			return
		case f.missing == "":
			next = f.entry
		case s.gap.Missing == "":
			s.gap = Gap{Run: s.run, Version: e.Version, Missing: f.missing}
		}
	}
	if next.Version == 0 {
		return
	}
	slices.Reverse(full)
	if s.order = append([]distfile.Entry{next}, full...); s.gap.Missing != "" {
		s.order = append(full, next)
	}
}

// candidate is the index of the first version that may come next.
func (s *search) candidate() int {
	first := s.start.Version
	if s.begun {
		first = s.record.Last + 1
	}
	i, _ := slices.BinarySearchFunc(s.offers, first, func(e distfile.Entry, v shard.Version) int {
		return int(e.Version) - int(v)
	})
	return i
}

// has reports whether e was delivered, maybe under another version, or withdrawn.
func (s *search) has(e distfile.Entry, place lineage.Place) bool {
	return s.record.IsWithdrawn(e) || slices.ContainsFunc(s.record.Held, func(f record.File) bool {
		at, ok := lineage.PlaceOf(f.Manifest.Labels)
		again := ok && at == place && (f.Manifest.Digest == e.Digest || f.Offered == e.Digest)
		return f.Delivered && (f.Is(e) || again)
	})
}

// index finds the places of the offers, and of what is here.
func (s *search) index() {
	s.at, s.firsts = make(map[lineage.Place][]int), make(map[int]lead)
	s.held = make(map[lineage.Place][]shard.Version)
	for _, f := range s.record.Held {
		at, ok := lineage.PlaceOf(f.Manifest.Labels)
		if ok && f.Delivered && !f.Before && !s.record.IsWithdrawn(f.Entry()) {
			s.held[at] = append(s.held[at], f.Version)
		}
	}
	for i, o := range s.offers {
		labels, known := s.labelsOf(o)
		if !known {
			s.dark = append(s.dark, i)
		} else if at, ok := lineage.PlaceOf(labels); ok {
			s.at[at] = append(s.at[at], i)
		}
	}
	s.unknown = distfile.Entry{}
}

// first finds what has to come first for the offer i with labels: itself if what it needs was delivered. The
// publisher bounds how long a chain is.
func (s *search) first(i int, labels map[string]string) lead {
	e := s.offers[i]
	need, needs := lineage.NeedOf(labels)
	if !needs {
		return lead{entry: e}
	}
	if s.at == nil {
		s.index()
	}
	if f, ok := s.firsts[i]; ok {
		return f
	}
	held := shard.Version(0) // the newest one that is here
	for _, v := range s.held[need] {
		if v < e.Version {
			held = max(held, v)
		}
	}
	newest, unknown := lastBefore(s.at[need], i), lastBefore(s.dark, i)
	if unknown > newest && s.offers[unknown].Version > held {
		s.unknown = s.offers[unknown]
		return lead{entry: e}
	}
	f := lead{entry: e}
	switch {
	case newest >= 0 && s.offers[newest].Version > held:
		if o := s.offers[newest]; !s.record.WasDelivered(o) {
			labels, _ := s.labelsOf(o)
			f = s.first(newest, labels)
		}
	case held == 0:
		f.missing = need.Number
	}
	if s.unknown == (distfile.Entry{}) {
		s.firsts[i] = f
	}
	return f
}

// lastBefore returns the last of ascending that is below i, or -1.
func lastBefore(ascending []int, i int) int {
	n, _ := slices.BinarySearch(ascending, i)
	if n == 0 {
		return -1
	}
	return ascending[n-1]
}

// needed returns which of files, by their index, those that keep says need by their labels: of each the
// newest older one, and so on.
func needed(files []record.File, keep func(i int) bool) map[int]bool {
	at := make(map[lineage.Place][]int)
	for i, f := range files {
		if p, ok := lineage.PlaceOf(f.Manifest.Labels); ok {
			at[p] = append(at[p], i)
		}
	}
	all := make(map[int]bool)
	for i := range files {
		if !keep(i) {
			continue
		}
		n := i
		for {
			need, ok := lineage.NeedOf(files[n].Manifest.Labels)
			if !ok {
				break
			}
			if n = newestBefore(files, files[n], at[need]); n < 0 || all[n] {
				break // without it, or with what it needs
			}
			all[n] = true
		}
	}
	return all
}

// newestBefore returns which of candidates, by their index in files, is the newest before one that needs it, or -1.
func newestBefore(files []record.File, needs record.File, candidates []int) int {
	newest := -1
	for _, i := range candidates {
		f := files[i]
		if f.Version >= needs.Version || f.Before && !needs.Before {
			continue
		}
		if newest < 0 || f.Version > files[newest].Version {
			newest = i
		}
	}
	return newest
}
