package wire

import "time"

// Waiting for the next version: the client asks for LongestWait, and the server grants
// up to MaxWait.
const (
	// MaxWait bounds how long a server holds a request. A connection that is silent for
	// longer is forgotten by some of the routers on its way.
	MaxWait = 300 * time.Second

	// LongestWait is the longest wait that a client asks for: proxies cut a silent
	// connection after 60 s by default. It must be below MaxWait.
	LongestWait = 55 * time.Second

	// Overdue is how much later than asked for a held answer may come. After that the server
	// is to blame for the silence, and no proxy on the way.
	Overdue = 3 * time.Second
)

// Waiting for bytes of a shard that is still arriving at the server.
const (
	// ShardWait is how long a server waits for the next bytes unless the request prefers
	// another wait: less than the 30 s after which the Python package's clients give up.
	ShardWait = 25 * time.Second

	// MaxShardWait is the longest wait that a client prefers, so that it learns of an
	// upstream's trouble before its own time-out for silence, DefaultSilence, has passed.
	// With a shorter time-out the client prefers a third of that.
	MaxShardWait = 10 * time.Second

	// DefaultSilence is how long a client lets a server send nothing unless its options
	// say otherwise. It is above ShardWait, which other servers of ours may keep.
	DefaultSilence = 30 * time.Second
)

// Connections between two requests: the client closes first, so that it sends no request
// into a connection that the server is closing.
const (
	ServerIdle = 2 * time.Minute
	ClientIdle = time.Minute
)

// Being refused: the server is full.
const (
	// BusyRetry is what a server states in Retry-After when all connections that its limits
	// allow are taken.
	BusyRetry = 2 * time.Second

	// SwarmRetry is what it states when all slots for nodes of a swarm are taken: the node
	// asks another one meanwhile.
	SwarmRetry = 0 * time.Second

	// MaxRetryAfter is the longest Retry-After that a client obeys, so that no server keeps it
	// away for good.
	MaxRetryAfter = 10 * time.Minute

	// MinRetry is the shortest wait of a client whatever Retry-After states, so that a
	// server that states 0 is not asked in a tight loop.
	MinRetry = 100 * time.Millisecond
)

// A node of a swarm that asks for a shard waits for a slot at the server.
const (
	// SlotWait is how long the server lets it wait for one.
	SlotWait = 2 * time.Second

	// SlotAnswer is how soon the refusal must come if the peer is not to count as silent:
	// SlotWait, and a second for the way.
	SlotAnswer = 3 * time.Second

	// PeerSilence is how long a peer may send nothing, and PeerFirst how much longer before
	// its first byte: as long as the refusal may take.
	PeerSilence = 5 * time.Second
	PeerFirst   = SlotAnswer

	// PeerWait is the wait that a node prefers for bytes that are still arriving at a peer:
	// a second less than PeerSilence, so that a peer without them is not taken for silent.
	PeerWait = PeerSilence - time.Second
)

// The list of the shards that a node has ([HaveName]), sent line by line.
const (
	// HaveEvery is the least time between two lines of a server, and HaveEveryShard the same
	// for a version of many shards, for each of them.
	HaveEvery      = 100 * time.Millisecond
	HaveEveryShard = 50 * time.Microsecond

	// HaveEveryDelta is HaveEvery for a delta: a small one has come in a few tenths of a second.
	HaveEveryDelta = 25 * time.Millisecond

	// HavePause is the least time between two lines that a client reads, and HavePauseShard
	// the same for each shard: both below the server's, or the client falls behind.
	HavePause      = 20 * time.Millisecond
	HavePauseShard = 20 * time.Microsecond

	// HaveAlive is how often a server without news sends an empty line, and HaveSilence how
	// long a client waits for a line: two of them may be late.
	HaveAlive   = 2 * time.Second
	HaveSilence = 3 * HaveAlive
)

// Membership in a swarm.
const (
	// MemberFor is how long a node is a member from each time that it has joined, and
	// JoinEvery how often it joins: two requests may fail.
	MemberFor = 3 * JoinEvery
	JoinEvery = 5 * time.Second

	// TicketFor is how long a ticket of a swarm is good, and how long a node believes the key
	// that signs them: a node whose upstream is gone for so long reads from no peer any more.
	TicketFor = 5 * time.Minute
)
