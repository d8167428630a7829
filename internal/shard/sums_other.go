//go:build !amd64

package shard

// hasBlocks is false where blocks is not written.
const hasBlocks = false

func blocks(_, _ *[8]uint32, _ *byte, _ int) {}
