// Package swarm is how nodes that follow the same upstream swap the shards of a version,
// so that the upstream sends each about once: who is a peer of whom, what a node says it
// has, and which shard it takes next from whom. It knows nothing of HTTP, nor of where
// bytes are kept. docs/protocol.md states the protocol.
//
// # What a node has
//
// A node tells of a version's shards in lines, see [Change]: the first one says all that
// it has, and each later one what has changed since.
//
// # Picking
//
// A free worker of a node asks its [Picker] for what to do. It takes
//
//   - what somebody waits for who reads it here, from whoever has it;
//   - else, unless two shards are coming from upstream already, what neighbours were asked
//     for in vain for too long;
//   - else, unless two shards are coming from upstream already, one of the first shards that
//     no neighbour has and upstream has sent nobody; upstream refuses it if that is not so
//     any more;
//   - else, of the first neighbour in a random order that has anything of use, the shard
//     that the fewest neighbours have, of the first 24 of them;
//   - else a shard that is still arriving at a neighbour which may pass it on;
//   - else any shard from upstream, if fewer than two are coming from there, and if that
//     has it to spare: whoever asks for what is fresh goes first there.
//
// Who has no neighbours takes all from upstream, in its order, and who can give nothing to them, a
// reader, nothing that is fresh. There are no owners, and no claims: what a dead, slow or
// lying node sits on comes from upstream in the end.
package swarm
