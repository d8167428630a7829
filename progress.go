package shardcast

import "time"

// Progress is the progress of a download or a broadcast; in a [Result] it is the final one.
// Sizes are in bytes, speeds in bytes per second. A broadcast has none of the fields about
// servers and earlier downloads.
type Progress struct {
	// Version is the version's name, such as "v1", and empty while a broadcast waits for its
	// number.
	Version string

	// Phase says what is done at the moment. A download has "fetching"; "verifying" while no
	// server sends anything and bytes that are there are checked, of this download, an earlier
	// one, or a complete file; and "syncing" when all is verified and goes to the disk, or
	// "writing" for [Client.DownloadTo]. A broadcast has "waiting" for others into the directory,
	// "cutting", and "syncing" when all is read. It is empty in a [Result].
	Phase string

	// Size is the file's size, and -1 while it is unknown.
	Size int64

	// Done is the number of bytes in place, or that a broadcast has read. It shrinks when a
	// shard fails its digest.
	Done int64

	// Resumed is the part of Done that was here already: from an earlier download, or a seed.
	Resumed int64

	// Rebuilt is the part of Done that was made by a delta from a version that is here.
	Rebuilt int64

	// Delta is the part of Received that is of a delta.
	Delta int64

	// Received is the number of bytes of shards that servers and peers have sent.
	Received int64

	// Peers is the part of Received that peers have sent.
	Peers int64

	// Wasted is the part of Received that was wrong or came twice.
	Wasted int64

	// Given is the number of bytes that the client has sent to peers, of this version and
	// any other, see [Client.Given].
	Given int64

	// Elapsed is the time since the beginning.
	Elapsed time.Duration

	// Speed is the throughput of the last few seconds, and in a [Result] of the whole.
	Speed float64

	// Upstreams are the servers, in the order of the options, and after them the peers.
	Upstreams []Upstream
}

// Upstream is the part of one server or peer in a download.
type Upstream struct {
	// URL is the address, without a password.
	URL string

	// Peer is true for a peer, and false for a server.
	Peer bool

	// State is "sending", "idle", "busy" (it answered that it has no room now), "failing"
	// (its last answer was an error), or "refused" (the download asks it no more).
	State string

	// Err is the reason for busy, failing and refused, and empty otherwise.
	Err string

	// Transfers is the number of requests in flight.
	Transfers int

	// Received is the number of bytes of shards that it has sent.
	Received int64

	// Speed is its throughput in the last few seconds, and in a [Result] in the whole
	// download, in bytes per second.
	Speed float64
}
