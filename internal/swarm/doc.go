// Package swarm lets nodes that follow the same server swap the shards of a version, so that
// the server sends each shard about once. It answers which nodes are peers, which shards
// each of them has, and which shard a node takes next from which. It refuses to know HTTP
// and transfers. docs/protocol.md states the protocol.
//
// # Shards of a node
//
// A node lists its shards of a version line by line, see [Change]: the first line lists all
// of them, and each later one the changes since.
//
// # Tickets
//
// Over TLS a node is known by the digest of its public key, which the upstream lists, and reads
// from others by a ticket that the upstream signs for that key, see [Issuer] and [Tickets].
//
// # Picking
//
// A free worker of a node asks its [Picker] for the next shard. It gets, in this order,
//
//   - a shard that a reader of this node waits for, from any peer that has it, or else from
//     upstream;
//   - unless its part of shards is arriving from upstream: a shard that peers failed to deliver for
//     too long;
//   - unless its part is arriving from upstream: one of the first fresh shards, which no
//     peer has and upstream has sent to no node; upstream refuses one that it has sent since;
//   - from the first peer that has a missing shard, in the order of how few are arriving from
//     each, which is random where these are equal: of the first 24 such shards the one that the
//     fewest peers have;
//   - a shard that is arriving at a peer which may pass it on;
//   - any shard from upstream, if less than its part is arriving from there, and if upstream has
//     time to spare: requests for fresh shards come first.
//
// A node without peers takes all shards from upstream in ascending order. A node that peers
// cannot reach, a reader, takes no fresh shard, as it cannot give it on.
//
// A caller may lean on this: no node owns a shard, so whatever a dead, slow or lying peer
// holds comes from upstream in the end.
package swarm
