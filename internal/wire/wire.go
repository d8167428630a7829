// Package wire is what both ends of HTTP must agree on: paths, names of header fields and
// the values in them, time-outs that must fit each other, and which addresses are
// private. It refuses to know sockets and files: all of it is constants and functions of
// strings.
//
// A caller may lean on this: each name and each pair of time-outs is declared here alone,
// so a server and a client of the same release never differ.
package wire

// Names of files that exist on the wire alone. Those that a data directory has, too, are
// those of packages shard, distfile and release.
const (
	// PeersName lists members of a server's swarm, see package swarm.
	PeersName = "peers.txt"

	// HaveName, below a version, lists which of its shards the server has, see package
	// swarm. The digest of the version's file is in [DigestQuery].
	HaveName = "have"

	// HealthName is answered with [Healthy] while a server runs.
	HealthName = "healthz"

	// ReadyName is answered with [Healthy] while a server has the newest version.
	ReadyName = "readyz"

	// MetricsName is answered in the text format of Prometheus.
	MetricsName = "metrics"

	// StatusName is the status page for programs. The page itself is the root.
	StatusName = "status.json"

	// StreamName, below a version, is answered with all bytes of the version.
	StreamName = "stream"

	// Latest in place of a version is the newest one.
	Latest = "latest"

	// ProbeName is a file that clients of the Python package's 0.2 and 0.3 fetch from each server
	// before anything else, to measure it. They give up if one of them lacks it.
	ProbeName = "data1.bin"
)

// Healthy is the whole answer to [HealthName] and [ReadyName] of a server of ours.
const Healthy = "ok\n"

// Directories below which all paths exist once more, as the Python package of that
// release expects them.
const (
	Python01 = "py01"
	Python02 = "py02"
	Python03 = "py03"
)

// DigestQuery names the digest of the wanted bytes in a URL, as in
// /v1/shard_001.bin?digest=9f86...: for a shard its own, for [HaveName] the file's. A
// server that has other bytes answers 404, and a cache may keep the shard for ever.
const DigestQuery = "digest"

// Names of header fields.
const (
	// ReleaseHeader in an answer for distribution.txt or release.txt is the SHA-256 of release.txt,
	// in hex, and absent where there is none. The entity tag of distribution.txt changes with it.
	ReleaseHeader = "Shardcast-Release"

	// TierHeader in an answer is through how many servers a version comes up to the one that
	// answers, while it arrives there; a server that holds all of the version omits it. In a
	// request for a shard it is the asking node's own tier. A server gives bytes of an
	// arriving shard to nodes of a higher tier alone, so no two wait for each other.
	TierHeader = "Shardcast-Tier"

	// PeerHeader in a request for [PeersName] is the claim by which a node joins the swarm,
	// and in the answer the node's standing there, see package swarm.
	PeerHeader = "Shardcast-Peer"

	// PeerKeyHeader in a request for [PeersName] is the digest of the key by which peers know the
	// node, over TLS. The answer has a ticket for the node in TicketHeader, which it shows to
	// peers, and in TicketKeyHeader the key that has signed it, see package swarm.
	PeerKeyHeader   = "Shardcast-Peer-Key"
	TicketHeader    = "Shardcast-Ticket"
	TicketKeyHeader = "Shardcast-Ticket-Key"

	// SwarmHeader in a request for a shard is how a node of a swarm asks, see package swarm.
	SwarmHeader = "Shardcast-Swarm"

	// NodeHeader in a request says that a node of ours asks, and no web page: browsers let no
	// page send a field that begins with Sec- (https://fetch.spec.whatwg.org, forbidden
	// request-header). So a server answers nodes under any name, see [Names].
	NodeHeader = "Sec-Shardcast"
)
