// Package client downloads a version that upstreams offer into a file or directory.
// It knows nothing of flags, nor of how bytes travel: package fetch does; package lookup finds the version.
//
// A download writes each byte once, at its place in a partial file beside the output file.
// The partial file takes the output file's name once the digest of the whole agrees and all
// of it is on the disk; until then the previous file of that name stays as it was.
//
// The partial file of a download that failed or was killed stays, and the next download of
// the same version to the same path continues it. Progress is read from the holes in the
// partial (sparse) file, so no state file can fall out of step, and no byte found there is
// used before its digest agrees. A download of another version to that path replaces it. A
// partial file that no download has continued for a day is removed by the next download into
// its directory.
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
