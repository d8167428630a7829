package shard

import "github.com/klauspost/cpuid/v2"

// hasBlocks reports whether this processor can run blocks.
var hasBlocks = cpuid.CPU.Supports(cpuid.SHA, cpuid.SSSE3, cpuid.SSE4)

// blocks adds n blocks of 64 bytes at p to both states.
//
//go:noescape
func blocks(a, b *[8]uint32, p *byte, n int)
