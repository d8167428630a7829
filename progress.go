package shardcast

import "time"

// Progress is how far a download has come, and in a [Result] how it went. All
// sizes are in bytes, and speeds in bytes per second.
type Progress struct {
	// Version is the version's name, such as "v1".
	Version string

	// Size is the file's, and -1 while it is not known.
	Size int64

	// Done is how much of the file is in place. Only a shard whose digest agrees
	// stays: what turns out wrong is taken off again.
	Done int64

	// Resumed is how much of Done an earlier download had left.
	Resumed int64

	// Received is what servers have sent of shards.
	Received int64

	// Peers is what of Received other nodes of a swarm have sent, and no server.
	Peers int64

	// Wasted is what of Received was of no use: wrong, or sent twice.
	Wasted int64

	// Given is what the client has sent others of a swarm so far, of this version and any
	// other, see [Client.Given].
	Given int64

	// Elapsed is the time since the download began.
	Elapsed time.Duration

	// Speed is that of the last few seconds, and in a [Result] that of the whole.
	Speed float64

	// Upstreams are the servers, in the order of the options, and after them the nodes of
	// a swarm.
	Upstreams []Upstream
}

// Upstream is what one server, or node of a swarm, has done for a download.
type Upstream struct {
	// URL is the server's, without a password.
	URL string

	// Peer says that it is a node of a swarm.
	Peer bool

	// State is "sending", "idle", "busy" (it has told us to wait), "failing", or
	// "refused" (it is not asked again for this version).
	State string

	// Err says why a server is busy, failing or refused, and is empty otherwise.
	Err string

	// Transfers is how many are under way.
	Transfers int

	// Received is what it has sent of shards, in bytes.
	Received int64

	// Speed is that of the last few seconds, and in a [Result] that of the whole,
	// in bytes per second.
	Speed float64
}
