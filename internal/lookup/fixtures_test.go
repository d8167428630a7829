package lookup_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/lookup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shardSize = sitetest.ShardSize

type site = sitetest.Site

var (
	newSite  = sitetest.New
	content  = sitetest.Content
	digestOf = sitetest.DigestOf
)

// newFinder returns a finder of sites that gives up after two attempts.
func newFinder(t *testing.T, sites ...*site) *lookup.Finder {
	t.Helper()
	return lookup.New(sitetest.Pool(t, sites...), slog.New(slog.DiscardHandler))
}
