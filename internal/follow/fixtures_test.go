package follow_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/follow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shardSize = sitetest.ShardSize

type site = sitetest.Site

var (
	silent      = slog.New(slog.DiscardHandler)
	newSite     = sitetest.New
	content     = sitetest.Content
	digestOf    = sitetest.DigestOf
	assertFiles = sitetest.AssertFiles
)

// with returns o with a client of sites that gives up after two attempts.
func with(t *testing.T, o follow.Options, sites ...*site) follow.Options {
	t.Helper()
	pool := sitetest.Pool(t, sites...)
	o.Pool, o.Client, o.Logger = pool, client.New(pool, silent), silent
	return o
}
