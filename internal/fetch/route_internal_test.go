package fetch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/shard"
)

// world has versions, each with the sizes of its deltas by their bases.
type world map[shard.Version]map[shard.Version]int64

func digestOf(v shard.Version) shard.Digest { return shard.Digest{byte(v), byte(v >> 8), 1} }

func (w world) manifest(v shard.Version) offers.Manifest {
	m := offers.Manifest{Entry: distfile.Entry{Version: v, Digest: digestOf(v)}}
	m.Stated.Digest = digestOf(v)
	for base, size := range w[v] {
		m.Stated.Deltas = append(m.Stated.Deltas, shard.Delta{Base: base, BaseDigest: digestOf(base), Size: size})
	}
	return m
}

// held is a base of a digest.
type held struct {
	Base
	digest shard.Digest
}

// way looks for the route from version have, and counts the manifests that it asks for.
func (w world) way(have shard.Version, most int64) (_ way, asked *int) {
	asked = new(int)
	return way{
		pays: func(size int64, _ int) bool { return size <= most },
		base: func(_ context.Context, digest shard.Digest) (Base, error) {
			if digest != digestOf(have) {
				return nil, nil //nolint:nilnil // as a Rebuilder does
			}
			return held{digest: digest}, nil
		},
		manifest: func(_ context.Context, e distfile.Entry) (offers.Manifest, bool) {
			*asked++
			_, ok := w[e.Version]
			return w.manifest(e.Version), ok
		},
	}, asked
}

func TestTheRouteToAVersion(t *testing.T) {
	line := make(world)
	for v := shard.Version(2); v <= 40; v++ {
		line[v] = map[shard.Version]int64{v - 1: 10}
	}
	for name, tc := range map[string]struct {
		in   world
		have shard.Version
		most int64
		want []shard.Version // what the deltas make
		size int64
	}{
		"one delta, though two are smaller": {
			world{8: {7: 1, 6: 50}, 7: {6: 1}}, 6, 100, []shard.Version{8}, 50,
		},
		"one after the other": {
			world{8: {7: 10}, 7: {6: 10}, 6: {5: 10}}, 5, 100, []shard.Version{6, 7, 8}, 30,
		},
		"the smallest way": {
			world{8: {7: 10, 6: 30}, 7: {6: 10, 5: 40}, 6: {5: 10}}, 5, 100, []shard.Version{6, 7, 8}, 30,
		},
		"as many bytes as are worth it":   {world{8: {7: 10}, 7: {6: 10}}, 6, 20, []shard.Version{7, 8}, 20},
		"more bytes than are worth it":    {world{8: {7: 10}, 7: {6: 10}}, 6, 19, nil, 0},
		"a version between is gone":       {world{8: {7: 10}, 6: {5: 10}}, 5, 100, nil, 0},
		"as many steps as there may be":   {line, 32, 1000, []shard.Version{33, 34, 35, 36, 37, 38, 39, 40}, 80},
		"more steps than there may be":    {line, 31, 1000, nil, 0},
		"deltas that lead round":          {world{8: {7: 10}, 7: {8: 10, 7: 5}}, 1, 1000, nil, 0},
		"a base that is another's":        {world{8: {7: 10}, 7: {6: 10}}, 99, 1000, nil, 0},
		"deltas of a version without any": {world{8: {}}, 7, 1000, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := tc.in.way(tc.have, tc.most)
			last := shard.Version(8)
			if tc.in[40] != nil {
				last = 40
			}
			got, err := w.find(t.Context(), tc.in.manifest(last))
			require.NoError(t, err)
			var makes []shard.Version
			for _, s := range got.steps {
				makes = append(makes, s.to.Entry.Version)
			}
			assert.Equal(t, tc.want, makes)
			assert.Equal(t, tc.size, got.size)
			assert.Equal(t, tc.want != nil, got.base != nil)
			if got.base != nil {
				assert.Equal(t, tc.have, got.from())
			}
		})
	}
}

func TestTheRouteIsLookedForInFewManifests(t *testing.T) {
	in := make(world)
	for v := shard.Version(2); v <= 100; v++ {
		in[v] = make(map[shard.Version]int64)
		for base := max(1, v-60); base < v; base++ {
			in[v][base] = 1
		}
	}
	w, asked := in.way(1000, 1000)
	got, err := w.find(t.Context(), in.manifest(100))
	require.NoError(t, err)
	assert.Nil(t, got.base)
	assert.Equal(t, mostBetween, *asked)
}

func TestAnErrorOfTheBaseEndsTheSearch(t *testing.T) {
	broken := errors.New("broken")
	in := world{8: {7: 10}, 7: {6: 10}}
	w, asked := in.way(6, 1000)
	w.base = func(context.Context, shard.Digest) (Base, error) { return nil, broken }
	_, err := w.find(t.Context(), in.manifest(8))
	require.ErrorIs(t, err, broken)
	assert.Zero(t, *asked)
}

func TestTheSearchForARouteHoldsUpNoVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := world{8: {7: 10, 6: 20}, 7: {6: 10}}
		w, _ := in.way(5, 1000)
		w.manifest = func(ctx context.Context, _ distfile.Entry) (offers.Manifest, bool) {
			<-ctx.Done() // a server that does not answer
			return offers.Manifest{}, false
		}
		start := time.Now()
		got, err := w.find(t.Context(), in.manifest(8))
		require.NoError(t, err)
		assert.Nil(t, got.base)
		assert.Equal(t, routePatience, time.Since(start))
	})
}

func TestARouteKeepsNoListsOfVersions(t *testing.T) {
	in := world{8: {7: 10}, 7: {6: 10}}
	w, _ := in.way(6, 100)
	ask := w.manifest
	w.manifest = func(ctx context.Context, e distfile.Entry) (offers.Manifest, bool) {
		m, ok := ask(ctx, e)
		m.Stated.Shards, m.Stated.Size = make([]shard.Digest, shard.MaxShards), 7000
		return m, ok
	}
	got, err := w.find(t.Context(), in.manifest(8))
	require.NoError(t, err)
	require.Len(t, got.steps, 2)
	stated := got.steps[0].to.Stated
	assert.Equal(t, shard.Manifest{Size: 7000, Digest: digestOf(7)}, stated)
}
