package server

import (
	"io/fs"
	"net/http"
	"slices"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// What Cache-Control says (RFC 9111, section 5.2.2, and RFC 8246).
const (
	// noCache has a cache ask whether it still has the right answer.
	noCache = "no-cache"

	// immutable lets it keep the answer for a year, and not ask.
	immutable = "public, max-age=31536000, immutable"
)

// pin lets caches keep what is about to be sent, if the request names it by its digest:
// one of digests, of which those that are not known are zero. It returns an error
// matching [fs.ErrNotExist] if the request names something else, so that nothing is kept
// under a digest that it does not have. Where none is known the answer is not to be kept.
func pin(w http.ResponseWriter, r *http.Request, digests ...shard.Digest) error {
	given, ok := r.URL.Query()[wire.DigestQuery]
	if !ok || !slices.ContainsFunc(digests, func(d shard.Digest) bool { return d != shard.Digest{} }) {
		return nil
	}
	var digest shard.Digest
	if len(given) == 1 {
		digest, _ = shard.ParseDigest(given[0]) // or zero, which nothing has
	}
	if digest == (shard.Digest{}) || !slices.Contains(digests, digest) {
		return fs.ErrNotExist
	}
	if r.Header["If-Match"] == nil { // which may be answered with 412
		w.Header().Set("Cache-Control", immutable)
	}
	return nil
}
