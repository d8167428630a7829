package server

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"math/rand/v2"
	"net/http"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// probeSize in bytes is that of [wire.ProbeName].
	probeSize = 1_000_000
)

// newProbe returns bytes that cannot be compressed, always the same, and their digest.
func newProbe() ([]byte, shard.Digest) {
	data := make([]byte, probeSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	return data, sha256.Sum256(data)
}

// measureBy answers with the probe, as fast as a shard would be sent.
func (h *handler) measureBy(w http.ResponseWriter, r *http.Request, dialect Dialect) error {
	if dialect != Dialect03 {
		return fs.ErrNotExist
	}
	var buckets []*bucket.Bucket
	if r.Method == http.MethodGet {
		var leave func()
		buckets, leave = h.gate.enterAlways(r.RemoteAddr)
		defer leave()
	}
	data, digest := h.probe()
	serve(w, r, "application/octet-stream", digest, throttle(r.Context(), bytes.NewReader(data), buckets))
	return nil
}
