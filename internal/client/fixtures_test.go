package client_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/lookup"
	"github.com/shardcast/shardcast/internal/shard"
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

// retire retires a version of s.
func retire(ctx context.Context, s *site, version shard.Version) error {
	w, err := s.Store.Lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.Retire("a test", version), w.Unlock())
}

// node downloads what it finds.
type node struct {
	*client.Client
	*lookup.Finder
}

// newClient returns a client of sites that gives up after two attempts.
func newClient(t *testing.T, sites ...*site) *node {
	t.Helper()
	return nodeOf(sitetest.Pool(t, sites...), silent)
}

// nodeOf returns a node with that pool.
func nodeOf(pool *fetch.Pool, logger *slog.Logger) *node {
	return &node{client.New(pool, logger), lookup.New(pool, logger)}
}

// find returns the newest offer.
func find(t *testing.T, c *node) distfile.Entry {
	t.Helper()
	e, err := c.Find(t.Context(), 0)
	require.NoError(t, err)
	return e
}

// offered returns all versions of s, ascending.
func offered(t *testing.T, s *site) []distfile.Entry {
	t.Helper()
	entries, err := s.Store.Distribution()
	require.NoError(t, err)
	return entries
}
