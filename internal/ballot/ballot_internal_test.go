package ballot

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// noon is when the ballots of these tests are counted.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// entry returns a version of a file.
func entry(v shard.Version, file byte) distfile.Entry {
	return distfile.Entry{Version: v, Digest: shard.Digest{file}}
}

// files returns versions of file 0.
func files(vs ...shard.Version) (all []distfile.Entry) {
	for _, v := range vs {
		all = append(all, entry(v, 0))
	}
	return all
}

// lists returns a voice that has listed entries for an hour.
func lists(entries ...distfile.Entry) Voice {
	v := Voice{Heard: true, Lists: make(map[distfile.Entry]time.Time)}
	for _, e := range entries {
		v.Lists[e] = noon.Add(-time.Hour)
	}
	return v
}

// since has v list all since a while ago.
func (v Voice) since(ago time.Duration) Voice {
	for e := range v.Lists {
		v.Lists[e] = noon.Add(-ago)
	}
	return v
}

// downSince has v not answer since a while ago.
func (v Voice) downSince(ago time.Duration) Voice {
	v.Failing, v.Down = true, noon.Add(-ago)
	return v
}

// silentSince returns a voice that was asked a while ago, and has not answered.
func silentSince(ago time.Duration) Voice { return Voice{Down: noon.Add(-ago)} }

// refusedSince returns a voice that has failed since a while ago, and never answered.
func refusedSince(ago time.Duration) Voice { return Voice{Failing: true, Down: noon.Add(-ago)} }

func TestWhichVersionsCount(t *testing.T) {
	const far = shard.MaxVersion - 1
	one, other := entry(2, 1), entry(2, 2)
	for name, tc := range map[string]struct {
		voices []Voice
		taker  Taker
		quorum int
		want   []distfile.Entry
		alone  []distfile.Entry
		beyond shard.Version
	}{
		"nothing is listed":            {voices: []Voice{lists()}},
		"one upstream":                 {voices: []Voice{lists(files(1, 2)...)}, want: files(1, 2)},
		"one, from far ahead at first": {voices: []Voice{lists(files(far)...)}, want: files(far)},
		"one, far ahead of what is held": {
			voices: []Voice{lists(files(8, far)...)}, taker: Taker{Highest: 8}, want: files(8), beyond: far,
		},
		"one, as far as it may": {
			voices: []Voice{lists(files(10_008)...)}, taker: Taker{Highest: 8}, want: files(10_008),
		},
		"one, one too far": {
			voices: []Voice{lists(files(10_009)...)}, taker: Taker{Highest: 8}, beyond: 10_009,
		},
		"one, far ahead, and allowed": {
			voices: []Voice{lists(files(far)...)}, taker: Taker{Highest: 8, AnyNumber: true}, want: files(far),
		},
		"one that is down": {voices: []Voice{lists(files(1)...).downSince(time.Hour)}, want: files(1)},

		"two alike": {
			voices: []Voice{lists(files(1, 2)...), lists(files(1, 2)...)}, want: files(1, 2),
		},
		"two, far ahead together": {
			voices: []Voice{lists(files(far)...), lists(files(far)...)}, taker: Taker{Highest: 1}, want: files(far),
		},
		"the first of two alone": {
			voices: []Voice{lists(files(1, 2)...), lists(files(1)...)}, want: files(1, 2),
		},
		"the first of two, far ahead": {
			voices: []Voice{lists(files(1, far)...), lists(files(1)...)},
			taker:  Taker{Highest: 1}, want: files(1), beyond: far,
		},
		"the second of two, for a minute": {
			voices: []Voice{lists(files(1)...), lists(files(1, 2)...).since(time.Minute)},
			want:   files(1, 2), alone: files(2),
		},
		"the second of two, for less": {
			voices: []Voice{lists(files(1)...), lists(files(1, 2)...).since(59 * time.Second)},
			want:   files(1), beyond: 2,
		},
		"the second of two, far ahead": {
			voices: []Voice{lists(files(1)...), lists(files(1, far)...)}, want: files(1), beyond: far,
		},
		"far ahead, although all may": {
			voices: []Voice{lists(files(1)...), lists(files(1, far)...)},
			taker:  Taker{AnyNumber: true}, want: files(1), beyond: far,
		},
		"the second ahead of what is held": {
			voices: []Voice{lists(files(1)...), lists(files(1, 15_000)...)},
			taker:  Taker{Highest: 9000}, want: files(1, 15_000), alone: files(15_000),
		},
		"two contradict one another": {voices: []Voice{lists(one), lists(other)}, want: []distfile.Entry{one}},
		"the first has nothing": {
			voices: []Voice{lists(), lists(files(1)...).since(time.Second)}, beyond: 1,
		},
		"the first has nothing, for long": {
			voices: []Voice{lists(), lists(files(1)...)}, want: files(1), alone: files(1),
		},

		"the first has been down for a minute": {
			voices: []Voice{lists(files(1)...).downSince(time.Minute), lists(files(2)...).since(0)}, want: files(2),
		},
		"the first has been down for less": {
			voices: []Voice{lists(files(1)...).downSince(time.Second), lists(files(2)...).since(0)},
			want:   files(1), beyond: 2,
		},
		"the first is awaited at the start": {
			voices: []Voice{silentSince(time.Second), lists(files(1)...).since(0)}, beyond: 1,
		},
		"the first is silent at the start": {
			voices: []Voice{silentSince(5 * time.Second), lists(files(1)...).since(0)}, want: files(1),
		},
		"the first is down at the start": {
			voices: []Voice{refusedSince(time.Second), lists(files(1)...).since(0)}, want: files(1),
		},
		"that, and the second is far ahead": {
			voices: []Voice{refusedSince(time.Second), lists(files(far)...)}, beyond: far,
		},
		"that, for a minute": {
			voices: []Voice{refusedSince(time.Minute), lists(files(far)...)}, want: files(far),
		},
		"that, and the node holds versions": {
			voices: []Voice{refusedSince(time.Minute), lists(files(far)...)}, taker: Taker{Highest: 1}, beyond: far,
		},
		"both are down": {
			voices: []Voice{lists(files(1)...).downSince(time.Hour), lists(files(2)...).downSince(time.Hour)},
			want:   files(1, 2), alone: files(2),
		},
		"once, and the first has nothing": {
			voices: []Voice{lists(), lists(files(1)...).since(0)},
			taker:  Taker{Once: true}, want: files(1), alone: files(1),
		},
		"once, and the first has another": {
			voices: []Voice{lists(files(1)...), lists(files(2)...)},
			taker:  Taker{Once: true}, want: files(1), beyond: 2,
		},
		"once, and the first is silent": {
			voices: []Voice{silentSince(0), lists(files(far)...)}, taker: Taker{Once: true}, want: files(far),
		},
		"once, and the first does not answer now": {
			voices: []Voice{lists(files(1)...).downSince(0), lists(files(2)...)},
			taker:  Taker{Once: true}, want: files(2),
		},

		"one of three alone": {
			voices: []Voice{lists(files(1, 2)...), lists(files(1)...), lists(files(1)...)}, want: files(1), beyond: 2,
		},
		"two of three": {
			voices: []Voice{lists(), lists(files(1)...), lists(files(1)...)}, want: files(1),
		},
		"two of three, far ahead": {
			voices: []Voice{lists(files(1)...), lists(files(far)...), lists(files(far)...)},
			taker:  Taker{Highest: 1}, want: files(far),
		},
		"three contradict one another": {
			voices: []Voice{lists(other), lists(one), lists(one)}, want: []distfile.Entry{one},
		},
		"two of three are down": {
			voices: []Voice{lists().downSince(time.Hour), lists(files(1)...), lists().downSince(time.Hour)},
			want:   files(1),
		},
		"one of three is down": {
			voices: []Voice{lists(files(1)...).downSince(time.Hour), lists(files(2)...), lists(files(3)...)},
			want:   files(2, 3), alone: files(3),
		},
		"half of four, with the first": {
			voices: []Voice{lists(files(1)...), lists(files(1)...), lists(), lists()}, want: files(1),
		},
		"half of four, without": {
			voices: []Voice{lists(), lists(files(1)...), lists(files(1)...), lists()}, beyond: 1,
		},
		"half of four, and another half": {
			voices: []Voice{lists(one), lists(one), lists(other), lists(other)}, want: []distfile.Entry{one},
		},

		"a quorum of two": {
			voices: []Voice{lists(files(1, 2)...), lists(files(1)...)}, quorum: 2, want: files(1), beyond: 2,
		},
		"a quorum, and one is down": {
			voices: []Voice{lists(files(1)...).downSince(time.Hour), lists(files(1)...)}, quorum: 2, beyond: 1,
		},
		"a quorum of all": {
			voices: []Voice{lists(files(1, 2)...), lists(files(1, 2)...), lists(files(1)...)},
			quorum: 3, want: files(1), beyond: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := Ballot{Voices: tc.voices, Quorum: tc.quorum, Taker: tc.taker, Now: noon}.Count()
			assert.Equal(t, tc.want, c.Entries)
			assert.Equal(t, tc.alone, c.Alone)
			assert.Equal(t, tc.beyond, c.Beyond.Entry.Version, c.Beyond.Why)
			if tc.beyond != 0 {
				assert.NotEmpty(t, c.Beyond.Upstreams)
				assert.NotEmpty(t, c.Beyond.Why)
			}
		})
	}
}

// anyVoice draws any voice.
func anyVoice(t *rapid.T) Voice {
	v := Voice{
		Lists: make(map[distfile.Entry]time.Time),
		Heard: rapid.Bool().Draw(t, "heard"), Failing: rapid.Bool().Draw(t, "failing"),
	}
	if v.Failing || !v.Heard {
		v.Down = noon.Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "down")) * time.Second)
	}
	number := rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, int(shard.MaxVersion)))
	for range rapid.IntRange(0, 9).Draw(t, "entries") {
		e := entry(shard.Version(number.Draw(t, "number")), byte(rapid.IntRange(0, 2).Draw(t, "file")))
		v.Lists[e] = noon.Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "since")) * time.Second)
	}
	return v
}

func TestNoSingleUpstreamOfThreeOrMoreDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		honest := lists(files(1, 2, 3)...)
		voices := []Voice{anyVoice(t)}
		for range rapid.IntRange(2, 5).Draw(t, "honest") {
			voices = append(voices, honest)
		}
		at := rapid.IntRange(0, len(voices)-1).Draw(t, "place of the liar")
		voices[0], voices[at] = voices[at], voices[0]
		taker := Taker{
			Highest: shard.Version(rapid.IntRange(0, 3).Draw(t, "highest")),
			Once:    rapid.Bool().Draw(t, "once"), AnyNumber: rapid.Bool().Draw(t, "any number"),
		}
		assert.Equal(t, files(1, 2, 3), Ballot{Voices: voices, Taker: taker, Now: noon}.Count().Entries)
	})
}

func TestTheSecondOfTwoTakesNothingAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		voices := []Voice{lists(files(1, 2, 3)...), anyVoice(t)}
		taker := Taker{AnyNumber: rapid.Bool().Draw(t, "any number"), Once: rapid.Bool().Draw(t, "once")}
		for _, e := range files(1, 2, 3) {
			assert.Contains(t, Ballot{Voices: voices, Taker: taker, Now: noon}.Count().Entries, e)
		}
		newest := Ballot{Voices: voices, Taker: taker, Now: noon}.Count().Newest().Version
		assert.LessOrEqual(t, newest, shard.Version(3+mostAhead))
	})
}

func TestTimeAloneChangesTheCountOnlyWhenItSaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var voices []Voice
		for range rapid.IntRange(1, 4).Draw(t, "voices") {
			voices = append(voices, anyVoice(t))
		}
		b := Ballot{Voices: voices, Now: noon}
		now, until := b.Count(), b.Until()
		end := noon.Add(time.Hour)
		if !until.IsZero() {
			end = until.Add(-1)
		}
		for _, b.Now = range []time.Time{noon.Add(1), noon.Add(end.Sub(noon) / 2), end} {
			later := b.Count()
			assert.Equal(t, now.Entries, later.Entries)
			assert.Equal(t, now.Alone, later.Alone)
		}
	})
}

func TestACountHasOneFileOfEachNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var voices []Voice
		for range rapid.IntRange(1, 5).Draw(t, "voices") {
			voices = append(voices, anyVoice(t))
		}
		quorum := rapid.IntRange(0, len(voices)).Draw(t, "quorum")
		c := Ballot{Voices: voices, Quorum: quorum, Now: noon}.Count()
		numbers := make(map[shard.Version]bool)
		for _, e := range c.Entries {
			numbers[e.Version] = true
			listed := 0
			for _, v := range voices {
				if slices.Contains(slices.Collect(maps.Keys(v.Lists)), e) {
					listed++
				}
			}
			assert.GreaterOrEqual(t, listed, max(1, quorum))
		}
		assert.Len(t, c.Entries, len(numbers))
	})
}
