package offers

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/ballot"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestTheAddressesOfANameAreOneVoice(t *testing.T) {
	now := time.Now()
	at := func(ago int) time.Time { return now.Add(-time.Duration(ago) * time.Second) }
	up := func(since map[distfile.Entry]time.Time) listing {
		return listing{heard: true, asked: at(60), since: since}
	}
	since := func(ago int, vs ...shard.Version) map[distfile.Entry]time.Time {
		all := make(map[distfile.Entry]time.Time)
		for _, v := range vs {
			all[distfile.Entry{Version: v}] = at(ago)
		}
		return all
	}
	down := listing{heard: true, failing: true, down: at(3), since: since(9, 7)}
	never := listing{failing: true, asked: at(8), down: at(7)}
	since5 := ballot.Voice{Heard: true, Lists: since(5, 1)}
	for name, tc := range map[string]struct {
		of   []listing
		want ballot.Voice
	}{
		"one address": {[]listing{up(since(5, 1))}, since5},
		"one of three alone": {
			[]listing{up(since(5, 1)), up(since(5, 1)), up(since(5, 1, 2))}, since5,
		},
		"two of three, since later": {
			[]listing{up(since(9, 1)), up(since(5, 1)), up(nil)}, since5,
		},
		"one of two":                {[]listing{up(since(5, 1)), up(nil)}, since5},
		"one that answers of three": {[]listing{up(since(5, 1)), down, never}, since5},
		"all down": {
			[]listing{down, never}, ballot.Voice{Heard: true, Failing: true, Down: at(3), Lists: since(9, 7)},
		},
		"none has ever answered": {[]listing{never, never}, ballot.Voice{Failing: true, Down: at(8), Lists: since(0)}},
		"one is asked":           {[]listing{{asked: at(2)}, never}, ballot.Voice{Down: at(2), Lists: since(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newListings()
			var servers []*remote.Server
			for i, of := range tc.of {
				s := remote.NewServer(&url.URL{Scheme: "http", Host: string(rune('a' + i))})
				servers, l.by[s] = append(servers, s), of
			}
			tc.want.Name = "name"
			assert.Equal(t, tc.want, l.voice("name", servers))
		})
	}
}
