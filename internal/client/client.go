// Package client downloads a version that upstreams offer into a file or directory.
// It knows nothing of flags, nor of how bytes travel: package fetch does; package lookup finds the version.
//
// A download arrives in a partial file or directory beside the output, see package partial, which takes the
// output's name once the digest of the whole agrees. The next download of the same version to the same path continues
// one that has failed; no byte found there is used before its digest agrees.
//
// With a keeper of releases in the pool, the publisher's signature vouches for all bytes, also for those
// of a part and of a pipe, see [Client.Verified]; without one, for parts and pipes it is the word of most servers.
//
// In a swarm, see [Client.Share], peers read downloads while they arrive and afterwards, from
// the file itself, whatever its name is by then.
package client

import (
	"log/slog"

	"github.com/shardcast/shardcast/internal/fetch"
)

// A Client downloads from the upstreams of a pool.
type Client struct {
	pool    *fetch.Pool
	logger  *slog.Logger
	sharing *sharing // or nil
}

// New returns a Client that fetches through pool.
func New(pool *fetch.Pool, logger *slog.Logger) *Client {
	return &Client{pool: pool, logger: logger}
}
