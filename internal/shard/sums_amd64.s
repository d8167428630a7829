#include "textflag.h"

// SHA-256 of the same blocks into two states (FIPS 180-4, section 6.2.2), with the SHA
// extensions. SHA256RNDS2 waits for the one before it in its own chain; with two chains
// the second fills the time in which the first waits, and both share the schedule.

// Two states, each as ABEF and CDGH.
#define A0 X1
#define A1 X2
#define B0 X3
#define B1 X4

// Words 4i to 4i+3 of the schedule are in M(i mod 4).
#define M0 X5
#define M1 X6
#define M2 X7
#define M3 X8

#define TMP X9
#define SWAP X10

// LOAD brings a state from h to s0 and s1.
#define LOAD(h, s0, s1) \
	MOVOU   (h), s0 \
	MOVOU   16(h), s1 \
	PSHUFD  $0xB1, s0, s0 \
	PSHUFD  $0x1B, s1, s1 \
	MOVO    s0, TMP \
	PALIGNR $8, s1, s0 \
	PBLENDW $0xF0, TMP, s1

// STORE brings it back.
#define STORE(h, s0, s1) \
	PSHUFD  $0x1B, s0, s0 \
	PSHUFD  $0xB1, s1, s1 \
	MOVO    s0, TMP \
	PBLENDW $0xF0, s1, s0 \
	PALIGNR $8, TMP, s1 \
	MOVOU   s0, (h) \
	MOVOU   s1, 16(h)

// WORDS reads four words of the block.
#define WORDS(at, m) \
	MOVOU  at(SI), m \
	PSHUFB SWAP, m

// FIRST and SECOND are two rounds each of both states; FIRST adds the constants of
// rounds at/4 and on to the words.
#define FIRST(at, m) \
	MOVO        m, X0 \
	PADDD       at(AX), X0 \
	SHA256RNDS2 X0, A0, A1 \
	SHA256RNDS2 X0, B0, B1

#define SECOND \
	PSHUFD      $0x0E, X0, X0 \
	SHA256RNDS2 X0, A1, A0 \
	SHA256RNDS2 X0, B1, B0

// EXTEND finishes the words after those in m; before are those before.
#define EXTEND(before, m, after) \
	MOVO       m, TMP \
	PALIGNR    $4, before, TMP \
	PADDD      TMP, after \
	SHA256MSG2 m, after

#define ROUNDS(at, before, m, after) \
	FIRST(at, m) \
	EXTEND(before, m, after) \
	SECOND \
	SHA256MSG1 m, before

// func blocks(a, b *[8]uint32, p *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $0-32
	MOVQ  a+0(FP), DI
	MOVQ  b+8(FP), R8
	MOVQ  p+16(FP), SI
	MOVQ  n+24(FP), CX
	TESTQ CX, CX
	JZ    done
	LEAQ  constants<>(SB), AX
	MOVOU swap<>(SB), SWAP
	LOAD(DI, A0, A1)
	LOAD(R8, B0, B1)

block:
	MOVO A0, X11
	MOVO A1, X12
	MOVO B0, X13
	MOVO B1, X14

	WORDS(0, M0)
	FIRST(0, M0)
	SECOND
	WORDS(16, M1)
	FIRST(16, M1)
	SECOND
	SHA256MSG1 M1, M0
	WORDS(32, M2)
	FIRST(32, M2)
	SECOND
	SHA256MSG1 M2, M1
	WORDS(48, M3)
	ROUNDS(48, M2, M3, M0)
	ROUNDS(64, M3, M0, M1)
	ROUNDS(80, M0, M1, M2)
	ROUNDS(96, M1, M2, M3)
	ROUNDS(112, M2, M3, M0)
	ROUNDS(128, M3, M0, M1)
	ROUNDS(144, M0, M1, M2)
	ROUNDS(160, M1, M2, M3)
	ROUNDS(176, M2, M3, M0)
	ROUNDS(192, M3, M0, M1)
	FIRST(208, M1)
	EXTEND(M0, M1, M2)
	SECOND
	FIRST(224, M2)
	EXTEND(M1, M2, M3)
	SECOND
	FIRST(240, M3)
	SECOND

	PADDD X11, A0
	PADDD X12, A1
	PADDD X13, B0
	PADDD X14, B1
	ADDQ  $64, SI
	DECQ  CX
	JNZ   block

	STORE(DI, A0, A1)
	STORE(R8, B0, B1)

done:
	RET

// The bytes of four big-endian words.
DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// The constants of FIPS 180-4, section 4.2.2.
DATA constants<>+0(SB)/8, $0x71374491428a2f98
DATA constants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA constants<>+16(SB)/8, $0x59f111f13956c25b
DATA constants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA constants<>+32(SB)/8, $0x12835b01d807aa98
DATA constants<>+40(SB)/8, $0x550c7dc3243185be
DATA constants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA constants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA constants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA constants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA constants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA constants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA constants<>+96(SB)/8, $0xa831c66d983e5152
DATA constants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA constants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA constants<>+120(SB)/8, $0x1429296706ca6351
DATA constants<>+128(SB)/8, $0x2e1b213827b70a85
DATA constants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA constants<>+144(SB)/8, $0x766a0abb650a7354
DATA constants<>+152(SB)/8, $0x92722c8581c2c92e
DATA constants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA constants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA constants<>+176(SB)/8, $0xd6990624d192e819
DATA constants<>+184(SB)/8, $0x106aa070f40e3585
DATA constants<>+192(SB)/8, $0x1e376c0819a4c116
DATA constants<>+200(SB)/8, $0x34b0bcb52748774c
DATA constants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA constants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA constants<>+224(SB)/8, $0x78a5636f748f82ee
DATA constants<>+232(SB)/8, $0x8cc7020884c87814
DATA constants<>+240(SB)/8, $0xa4506ceb90befffa
DATA constants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL constants<>(SB), RODATA|NOPTR, $256
