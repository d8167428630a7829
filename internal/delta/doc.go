// Package delta turns one stream of bytes, the base, into another one, the target, by as few bytes as it can: the
// delta. [Encode] makes it, a [Reader] applies it. The package knows nothing of versions, files and HTTP, and does
// not choose the copies from which the target is predicted; package match does.
//
// A caller may lean on this: whatever a Reader reads, it ends with an error or writes each byte of the target that
// the header states once, and it takes bounded memory. It does not say that the target is right: that is for digests.
//
// # Format
//
// A uvarint is a number in groups of 7 bits, the lowest first, of which all but the last byte have the highest bit
// set; it has at most 10 bytes and 64 bits, and no more bytes than the number needs. A varint is a signed number n as
// the uvarint of 2n, or of -2n-1 if it is negative.
//
//	delta   = "shardcast delta 1" LF, uvarint(base size), uvarint(target size), records
//	records = run / block, until there is one for each 1 MiB of the target, and nothing after them
//	run     = 00, uvarint(number of blocks), varint(shift)
//	block   = uvarint(size of body), body
//
// Both sizes are at most 2^61. The target is cut into blocks of 1 MiB (2^20 bytes); the last one may have fewer, and
// an empty target has none. A block of a run is equal to the bytes of the base at its own offset plus shift. Every
// other block has a body, of 1 to 1 MiB + 64 bytes, and can be decoded without the others:
//
//	body    = width, uvarint(pieces), uvarint(changes), list, literals, gaps, width * plane
//
// Width is a byte: lanes have 1, 2 or 4 bytes. The five others are sections, which are below.
//
// The list has each of the pieces, at most 32,768 and as many as the block has bytes, in the order of the block:
// uvarint(bytes of the block between the end of the piece before, or the block's start, and this piece), uvarint(size,
// not 0), varint(shift, less that of the piece before, or 0; modulo 2^64). A piece predicts its bytes of the block
// from the bytes of the base at the same offset of the stream plus shift. All pieces lie inside the block and the
// base. Literals are the bytes of the block outside of its pieces.
//
// The predictions of all pieces, one after the other, are taken as lanes, little-endian numbers of width bytes; the
// last lane is filled up with zeros if need be, and what then comes to stand beyond the predictions is dropped. For
// each lane that changes, gaps has how many lanes between the one before that changes (or the start) and this
// one do not: a byte of 255 stands for 255 more, and the first that is less than 255 ends the number. The change d
// is a signed number modulo 2^(8*width), to be added to the prediction. With z = 2d for a positive one and -2d-1 for
// a negative one, z-1 is written in width bytes, the k-th of which stands in the k-th plane, the lowest first: so
// each plane has as many bytes as there are changes. In a delta of weights, d is a step in units of the last place:
// up or down by one are the two smallest numbers, whatever the bits of the weight were. A difference by XOR would
// depend on these bits, and take some 10 % more.
//
//	section = uvarint(4 * bytes + method), content
//
// Bytes is how many the section stands for. Method 0: the content is these bytes. 1: one byte, which all are. 2 and
// 3: uvarint(size of what follows), and then for 2 the bytes coded by finite state entropy, for 3 a zstd frame (RFC
// 8878) whose window is at most 1 MiB. A list takes at most 16 bytes for each piece, literals as many as the block
// has outside of its pieces, gaps at most one for each change and one more for each 255 lanes; a section that states
// more is refused before it is decoded, and one that turns out to have fewer or more is refused, too.
//
// What method 2 has is RFC 8878's table description (section 4.1.1; the accuracy is at most 15) and bitstream, which
// two states read in turns, as those of Huffman weights (section 4.2.1.2) are.
//
// # Example
//
// The base is "abcdefgh", the target "abddefgh!", and the prediction is a copy of all 8 bytes:
//
//	73 68 61 72 64 63 61 73 74 20 64 65 6c 74 61 20 31 0a   "shardcast delta 1", LF
//	08 09             the base has 8 bytes, the target 9
//	0f                the body of the only block has 15 bytes
//	02 01 01          lanes of 2 bytes, 1 piece, 1 change
//	0c 00 08 00       list, 3 bytes stored: after 0 bytes a piece of 8 bytes, shift 0
//	04 21             literals, 1 byte stored: "!"
//	04 01             gaps, 1 byte stored: 1 lane, "ab", is the same
//	04 01             first plane, 1 byte stored
//	04 00             second plane: z-1 is 1, so d is 1, and "cd", 6463 in hex, becomes 6464, "dd"
package delta
