package follow

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/record"
)

func TestNumbersBeginAgainInAHigherEpochAlone(t *testing.T) {
	known := func(last distfile.Entry, epoch uint64) record.Record {
		r := record.Record{Last: last.Version, Epoch: epoch, Over: false}
		r.Learn([]distfile.Entry{offer(8), last})
		return r
	}
	for name, tc := range map[string]struct {
		before record.Record
		epoch  uint64
		listed []distfile.Entry
		over   bool
	}{
		"the same epoch":                {known(offer(9), 3), 3, upTo(2), false},
		"a lower one":                   {known(offer(9), 3), 2, upTo(2), false},
		"a higher one":                  {known(offer(9), 3), 4, upTo(2), true},
		"the first, which goes on":      {known(offer(9), 0), 3, upTo(10), false},
		"the first, which begins again": {known(offer(9), 0), 3, upTo(2), true},
		"the first of a new directory":  {record.Record{}, 3, upTo(2), false},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := os.OpenRoot(t.TempDir())
			require.NoError(t, err)
			defer root.Close()
			require.NoError(t, disk.MakePrivate(root, record.Hidden))
			logger := slog.New(slog.DiscardHandler)
			r := &run{
				opts: Options{Logger: logger}, dir: &directory{root: root, record: tc.before, logger: logger},
				choice: newChoice(0, false, nil),
			}
			count := fetch.Count{Epoch: tc.epoch, Listed: tc.listed, Entries: tc.listed}
			require.NoError(t, r.lookBack(t.Context(), count))
			assert.Equal(t, tc.over, r.dir.record.Over)
			assert.Equal(t, max(tc.epoch, tc.before.Epoch), r.dir.record.Epoch)
			if tc.over {
				assert.Zero(t, r.dir.record.Last)
			}
			if tc.epoch > tc.before.Epoch {
				saved, err := record.Read(root)
				require.NoError(t, err)
				assert.Equal(t, tc.epoch, saved.Epoch, "it is on the disk")
			}
		})
	}
}

func TestADoubtIsSaidOnceUntilItHasPassed(t *testing.T) {
	var log strings.Builder
	r := &run{opts: Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
	said := func() int { return strings.Count(log.String(), "nothing new is delivered") }
	r.doubt(fetch.ErrExpired)
	r.doubt(fetch.ErrExpired)
	assert.Equal(t, 1, said())
	r.doubt(nil)
	r.doubt(fetch.ErrExpired)
	assert.Equal(t, 2, said())
}
