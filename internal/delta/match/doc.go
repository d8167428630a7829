// Package match finds the copies from which package delta predicts a target: which of its bytes resemble which bytes
// of a base. It needs to know nothing of them; where files of a tree are known, or a file says by itself where its
// tensors are, it uses that. Its result is a hint: copies that are wrong make a delta larger, not wrong.
//
//   - Files of two trees belong together by digest, else by path, else by a path that differs in its numbers alone
//     (lib/modules/6.1.0-50 and -57). The headers before a file belong to it. [Trees]
//   - Tensors of two safetensors files belong together by name. A header has at most 16 MiB; one that names a tensor
//     twice, or has tensors that overlap or lie outside of the file, is none.
//   - Two files of the same size, of which each of some 256 samples has a quarter of its bytes at the same place,
//     are compared byte by byte from their beginning to their end.
//   - Anything else is searched, for insertions and moved parts. [Streams]
//
// # Search
//
// A hash of each 16 bytes is rolled over the base (h = 4h + a random number for the byte, in 32 bits, so that a byte
// is shifted out after 16). The hash itself chooses one window in 8, or in a large base so many fewer that 4 MiB
// hold their places: one in 4,096 for 1 GiB. The same is rolled over the target, but only where it is not equal to
// what it has been compared with so far; since the same bytes have the same hash, their windows are chosen there,
// too, wherever they stand. A window that is found is compared, extended both ways while bytes are equal, and
// followed if that predicts at least 8 bytes more than going on as before. A place that is followed is so through
// single changes, while more bytes are equal than not, and is given up once its balance is 128 bytes below its best;
// it begins and ends where its balance is best. So code that has moved, and whose addresses have all changed, is one
// copy, and what differs in it is left to the delta.
//
// Following through changes is as in bsdiff, which takes 9 to 17 times the base in memory for its index of all
// suffixes. zsync compares fixed blocks of the base, 2 KiB or more, and finds nothing shorter than these.
package match
