// Package shard cuts a file into shards, and names and describes a version of it: version
// numbers, shard names, digests and the manifest. It refuses to know directories and HTTP.
// A manifest that [ParseManifest] returns agrees with itself: sizes, counts and digests.
//
// Shard i (from 1) of a file holds the bytes [(i-1)*shard_size, i*shard_size),
// the last one the rest. An empty file has no shards. The names on disk and
// on the wire are
//
//	version = "v" number                 number without leading zeros, from 1, at most 18 digits
//	shard   = "shard_" digits ".bin"     the shard's number, padded to three digits
//	delta   = "from_" version            by its base, see [Delta]
//
// A manifest is a JSON object (RFC 8259); times are RFC 3339, digests are
// SHA-256 (FIPS 180-4) in lower-case hex:
//
//	{
//	  "name": "weights.safetensors",
//	  "date": "2026-01-31T12:00:00Z",
//	  "size": 120000000,
//	  "shard_size": 50000000,
//	  "digest": "<digest of the whole file>",
//	  "shards": ["<digest of shard 1>", "<digest of shard 2>", "<digest of shard 3>"]
//	}
//
// It may also have labels, the description of a tree's [Files], and deltas:
//
//	"deltas": [{"base": "v1", "base_digest": "<digest of v1>", "size": 812345,
//	            "manifest": "<digest of the text of from_v1/manifest.json>"}]
//
// [ParseManifest] skips members that are not named here, so that later writers may add
// some.
package shard
