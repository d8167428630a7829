package follow

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// labelsOf reads "a7" or "a7<6", a run's letter, a number, and what that needs. "-" has no labels.
func labelsOf(text string) map[string]string {
	if text == "-" {
		return nil
	}
	labels := map[string]string{"run": text[:1]}
	number, after, needs := strings.Cut(text[1:], "<")
	labels["number"] = number
	if needs {
		labels["after"] = after
	}
	return labels
}

// descentOf is a descent with the versions from 1 on that words describe. "?" is not known, and "." is not on
// offer.
func descentOf(words string) (*descent, []distfile.Entry) {
	d := &descent{labels: make(map[distfile.Entry]map[string]string)}
	var offers []distfile.Entry
	for i, word := range strings.Fields(words) {
		e := offer(shard.Version(i+1), byte(i+1))
		if word != "." {
			offers = append(offers, e)
		}
		if word != "?" && word != "." {
			d.labels[e] = labelsOf(word)
		}
	}
	return d, offers
}

// recordOf is the record of a follow of run, unless that is empty, that has delivered the versions from 1 on
// that words describe, up to last. "." is not here.
func recordOf(run string, last shard.Version, words string) *record.Record {
	r := &record.Record{Last: last}
	if run != "" {
		r.Run = &run
	}
	for i, word := range strings.Fields(words) {
		if word == "." {
			continue
		}
		e := offer(shard.Version(i+1), byte(i+1))
		r.Held = append(r.Held, record.File{
			Version: e.Version, Manifest: shard.Manifest{Digest: e.Digest, Labels: labelsOf(word)}, Offered: e.Digest,
			Path: e.Version.String(), Delivered: true,
		})
		r.Delivered = append(r.Delivered, record.Known{Version: e.Version, Digest: e.Digest})
	}
	return r
}

func TestALineageIsDeliveredInOrder(t *testing.T) {
	for name, tc := range map[string]struct {
		record  *record.Record
		offers  string
		order   []int
		start   int
		missing string
		unknown int
	}{
		"begins with the newest full one": {recordOf("", 0, ""), "a1 a2<1 a10 a11<10", []int{3}, 3, "", 0},
		"then the next":                   {recordOf("a", 3, ". . a10"), "a1 - a10 a11<10 a12<11", []int{4}, 0, "", 0},
		"also a full one":                 {recordOf("a", 1, "a1"), "a1 a2 a3 a4<3", []int{2, 3}, 0, "", 0},
		"a full one in place of a failed": {recordOf("a", 1, "a1"), "a1 a2<1 a3 a4<3 a5", []int{2, 5, 3}, 0, "", 0},
		"no other kind":                   {recordOf("", 0, ""), "- a1 - a2<1", []int{2}, 2, "", 0},
		"nothing new":                     {recordOf("a", 2, "a1 a2<1"), "a1 a2<1 -", nil, 0, "", 0},
		"a gap":                           {recordOf("a", 1, "a1"), "a1 . a3<2 a4<3", nil, 0, "2", 0},
		"a gap behind a full one":         {recordOf("a", 1, "a1"), "a1 . a3<2 a4 a5<4 a6", []int{6, 4}, 0, "2", 0},
		"nothing to begin with":           {recordOf("", 0, ""), "a2<1 a3<2", nil, 0, "1", 0},
		"one that has come late first":    {recordOf("a", 4, "a1 . a3 a4"), "a1 a2<1 a3 a4 a5<2", []int{2}, 0, "", 0},
		"which needs another":             {recordOf("a", 4, "a1 . . a4"), "a1 a2<1 a3<2 a4 a5<3", []int{2}, 0, "", 0},
		"delivered, and gone since":       {recordOf("a", 2, "a1 a2<1"), ". . a3<2", []int{3}, 0, "", 0},
		"the newest of its number":        {recordOf("a", 3, "a1 a2<1 a1"), "a1 a2<1 a1 a2<1 a3<2", []int{4}, 0, "", 0},
		"of another run":                  {recordOf("a", 2, "a1 a2<1"), "a1 a2<1 b1 b2<1", []int{3}, 3, "", 0},
		"the newest full one of it":       {recordOf("a", 2, "a1 a2<1"), ". . b1 b2<1 b3 b4<3", []int{5}, 5, "", 0},
		"not while this one goes on":      {recordOf("a", 2, "a1 a2<1"), "a1 a2<1 b1 a3<2", []int{4}, 0, "", 0},
		"not without a full one":          {recordOf("a", 2, "a1 a2<1"), "a1 a2<1 b2<1", nil, 0, "", 0},
		"not known yet":                   {recordOf("a", 1, "a1"), "a1 ? a3<2", nil, 0, "", 2},
		"not known, and of no matter":     {recordOf("a", 3, "a1 . a2<1"), "a1 ? a2<1 a3<2", []int{4}, 0, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, offers := descentOf(tc.offers)
			p := d.plan(tc.record, offers)
			assert.Equal(t, tc.order, versions(p.order))
			assert.EqualValues(t, tc.start, p.start.Version)
			assert.Equal(t, tc.missing, p.gap.Missing)
			assert.EqualValues(t, tc.unknown, p.unknown.Version)
		})
	}
}

func TestAWithdrawnVersionIsNotWhatAnotherNeeds(t *testing.T) {
	d, offers := descentOf("a1 . a3<2")
	r := recordOf("a", 2, "a1 a2<1")
	r.Known = r.Delivered
	r.GoBack(offers[0])
	r.Last = 1
	p := d.plan(r, offers)
	assert.Empty(t, p.order)
	assert.Equal(t, "2", p.gap.Missing)
	d, offers = descentOf("a1 . . a2<1 a3<2")
	assert.Equal(t, []int{4}, versions(d.plan(r, offers).order), "its number comes anew")
}

func TestALateVersionDoesNotTakeTheFollowBack(t *testing.T) {
	r := recordOf("a", 5, "a1 a2<1 a3 a4 a5")
	r.Deliver(r.Held[1], nil)
	assert.EqualValues(t, 5, r.Last)
}

func TestAVersionThatOthersNeedIsTriedAgain(t *testing.T) {
	c := newChoice(0, true, anywhere)
	d, offers := descentOf("a1 a2<1")
	c.descent = d
	r, now := recordOf("a", 1, "a1"), time.Now()
	c.failed(offers[1], fetch.ErrIntegrity, now)
	e, wait := c.next(r, offers, now)
	assert.Zero(t, e)
	assert.Equal(t, onceMore, wait)
	e, _ = c.next(r, offers, now.Add(onceMore))
	assert.Equal(t, offers[1], e)
}

// descendingRun is a run by lineage that asks manifest, with a record and offers.
func descendingRun(
	r *record.Record, offers []distfile.Entry, manifest func(context.Context, distfile.Entry) (shard.Manifest, error),
) *run {
	c := newChoice(0, true, anywhere)
	c.descent = &descent{labels: make(map[distfile.Entry]map[string]string)}
	return &run{
		opts: Options{Logger: slog.New(slog.DiscardHandler)}, dir: &directory{record: *r}, choice: c, offers: offers,
		descending: descending{manifest: manifest, failures: make(map[distfile.Entry]failure)},
	}
}

func TestAManifestThatCannotBeHadDoesNotHoldUpTheOthersForLong(t *testing.T) {
	d, offers := descentOf("a1 a2<1 a3<2")
	asked := 0
	r := descendingRun(recordOf("a", 1, "a1"), offers,
		func(_ context.Context, e distfile.Entry) (shard.Manifest, error) {
			if asked++; e.Version == 3 {
				return shard.Manifest{}, fetch.ErrIntegrity
			}
			return shard.Manifest{Labels: d.labels[e]}, nil
		})
	for range rounds - 1 {
		wait, err := r.descend(t.Context())
		require.NoError(t, err)
		assert.Equal(t, firstPause, wait)
	}
	wait, err := r.descend(t.Context())
	require.NoError(t, err)
	assert.Zero(t, wait)
	assert.Equal(t, rounds+1, asked)
	order, _ := r.choice.order(&r.dir.record, offers)
	assert.Equal(t, []int{2}, versions(order))
	_, err = r.descend(t.Context())
	require.NoError(t, err)
	assert.Equal(t, rounds+1, asked, "known, or left out for now")
	r.forgetLabels(time.Now().Add(2 * onceMore))
	assert.NotContains(t, r.choice.descent.labels, offers[2], "it is asked for once more")
	assert.Empty(t, r.descending.failures)
}

func TestServersThatDoNotAnswerAreWaitedFor(t *testing.T) {
	_, offers := descentOf("a1")
	r := descendingRun(&record.Record{}, offers, func(context.Context, distfile.Entry) (shard.Manifest, error) {
		return shard.Manifest{}, fetch.ErrUnreachable
	})
	for range 2 * rounds {
		wait, err := r.descend(t.Context())
		require.NoError(t, err)
		assert.Equal(t, firstPause, wait)
	}
	r.descending.manifest = func(context.Context, distfile.Entry) (shard.Manifest, error) {
		return shard.Manifest{}, fs.ErrNotExist
	}
	wait, err := r.descend(t.Context())
	require.NoError(t, err)
	assert.Zero(t, wait, "a version without a manifest has no labels")
}

func TestAVersionIsPlacedByTheLabelsByWhichItWasChosen(t *testing.T) {
	d, offers := descentOf("a1 a2<1")
	r := descendingRun(&record.Record{}, offers, nil)
	r.choice.descent = d
	require.NoError(t, r.sameLabels(offers[1], shard.Manifest{Labels: labelsOf("a2<1")}))
	require.Error(t, r.sameLabels(offers[1], shard.Manifest{Labels: labelsOf("a2")}))
	assert.NotContains(t, d.labels, offers[1], "they are asked for again")
}

func TestAChainThatHasNoEndIsAGap(t *testing.T) {
	d, offers := descentOf(strings.Repeat("a1<1 ", 200))
	require.Len(t, offers, 200)
	p := d.plan(recordOf("a", 199, ""), offers)
	assert.Equal(t, "1", p.gap.Missing)
	assert.Empty(t, p.order)
}

func TestVersionsThatKeptOnesNeedAreKept(t *testing.T) {
	for name, tc := range map[string]struct {
		held string
		keep []int
		want []int
	}{
		"a chain":              {"a1 a2<1 a3<2 a4 a5<4", []int{4}, []int{3}},
		"all of it":            {"a1 a2<1 a3<2", []int{2}, []int{0, 1}},
		"the newest older one": {"a1 a1 a2<1 a1", []int{2}, []int{1}},
		"of its own run":       {"b1 a1 b2<1", []int{2}, []int{0}},
		"none":                 {"- - -", []int{2}, nil},
		"a gap":                {"a1 a3<2", []int{1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			all := needed(recordOf("a", 9, tc.held).Held, func(i int) bool { return i == tc.keep[0] })
			var got []int
			for i := range 10 {
				if all[i] {
					got = append(got, i)
				}
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestAChainIsAsLongAsItsPublisherMakesIt(t *testing.T) {
	words := []string{"a1"}
	for n := 2; n <= 1000; n++ {
		words = append(words, fmt.Sprintf("a%d<%d", n, n-1))
	}
	all := strings.Join(words, " ")
	assert.Len(t, needed(recordOf("a", 1000, all).Held, func(i int) bool { return i == 999 }), 999)
	d, offers := descentOf(all)
	r := recordOf("a", 999, "")
	assert.Equal(t, []int{1}, versions(d.plan(r, offers).order))
}

func TestAGapBeforeThousandsOfVersionsIsFoundAtOnce(t *testing.T) {
	d := &descent{labels: make(map[distfile.Entry]map[string]string)}
	var offers []distfile.Entry
	for i := 1; i <= distfile.MaxEntries; i++ { // to look at all before each, for each, would take hours
		offers = append(offers, offer(shard.Version(i), byte(i)))
		d.labels[offers[i-1]] = labelsOf(fmt.Sprintf("a%d<%d", i+1, i))
	}
	p := d.plan(recordOf("a", 0, ""), offers)
	assert.Empty(t, p.order)
	assert.Equal(t, Gap{Run: "a", Version: 1, Missing: "1"}, p.gap)
}

func TestWhatIsHereFromBeforeNumbersBeganAgainIsNotNeeded(t *testing.T) {
	d := &descent{labels: make(map[distfile.Entry]map[string]string)}
	offers := []distfile.Entry{offer(1, 1), offer(3, 103)} // the first is the same as before
	d.labels[offers[0]], d.labels[offers[1]] = labelsOf("a1"), labelsOf("a3<2")
	r := recordOf("a", 5, "a1 a2<1 . a4 a5<4")
	r.StartOver(offers)
	r.Run = new("a")
	p := d.plan(r, offers)
	assert.Empty(t, p.order)
	assert.Equal(t, "2", p.gap.Missing, "another version has that number since")
	r.Held = append(r.Held, record.File{Version: 6, Manifest: shard.Manifest{Labels: labelsOf("a6<5")}})
	last := len(r.Held) - 1
	assert.Empty(t, needed(r.Held, func(i int) bool { return i == last }))
	offers[1] = offer(3, 104)
	d.labels[offers[1]] = labelsOf("a3<1")
	assert.Equal(t, []int{3}, versions(d.plan(r, offers).order))
}
