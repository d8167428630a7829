package swarm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

// A Key is what a node that speaks TLS is known by: the SHA-256 digest of its public key. Zero
// is for nodes that speak plain HTTP.
type Key [sha256.Size]byte

// String returns 64 hex digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads 64 lower-case hex digits, and reports whether text is that.
func ParseKey(text string) (k Key, ok bool) {
	if len(text) != 2*len(k) || strings.ToLower(text) != text {
		return Key{}, false
	}
	_, err := hex.Decode(k[:], []byte(text))
	return k, err == nil && k != Key{}
}

const (
	// mostSigners is how many signing keys of one upstream a node knows: servers at one address
	// have one each, and so has each start of a server.
	mostSigners = 4

	// maxTicket bounds a ticket in bytes: a number of 18 digits, a dot and 64 bytes in base64.
	maxTicket = 18 + 1 + 86
)

// ErrTicket means that a node may not read from another one: it shows no ticket of their
// upstream, or that of another node, or one that has expired.
var ErrTicket = errors.New("no ticket of the swarm")

// ticketText is what a signature of a ticket is of.
func ticketText(node Key, expires int64) []byte {
	return fmt.Appendf(nil, "shardcast ticket 1\n%s\n%d\n", node, expires)
}

// An Issuer signs tickets, by which the nodes of a swarm know that another one may read from
// their upstream. Its key is that of one process. The methods may be called from any
// goroutine.
type Issuer struct {
	key    ed25519.PrivateKey
	public Key // which is as long as a digest
}

// NewIssuer returns an Issuer with a key of its own.
func NewIssuer() (*Issuer, error) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	return &Issuer{key, Key(public)}, nil
}

// Public returns the public key in hex.
func (i *Issuer) Public() string { return i.public.String() }

// Issue returns a ticket for a node, which is good for 5 minutes from now: the Unix time of
// its end, a dot, and the signature in base64url.
func (i *Issuer) Issue(node Key, now time.Time) string {
	expires := now.Add(wire.TicketFor).Unix()
	signature := ed25519.Sign(i.key, ticketText(node, expires))
	return strconv.FormatInt(expires, 10) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Tickets are the signing keys of a node's upstreams. The methods may be called from any
// goroutine.
type Tickets struct {
	mu      sync.Mutex // guards signers
	signers map[string][]signer
}

// signer is one signing key, and the clock of its upstream.
type signer struct {
	public Key
	clock  time.Time // of the upstream, when
	at     time.Time // it was told
}

// NewTickets returns Tickets that trust no upstream yet.
func NewTickets() *Tickets { return &Tickets{signers: make(map[string][]signer)} }

// Trust has tickets count that a key has signed, which an upstream has told, whose clock stood
// at clock. It counts for as long as a ticket does.
func (t *Tickets) Trust(upstream string, public Key, clock time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	known := slices.DeleteFunc(t.signers[upstream], func(s signer) bool {
		return s.public == public || now.Sub(s.at) >= wire.TicketFor
	})
	known = append(known, signer{public, clock, now})
	t.signers[upstream] = known[max(0, len(known)-mostSigners):]
}

// Check returns nil if a ticket is one of a node with a key, and [ErrTicket] otherwise. The
// clocks of the upstreams count, not that of this machine.
func (t *Tickets) Check(ticket string, node Key) error {
	expires, signature, ok := parseTicket(ticket)
	if !ok {
		return ErrTicket
	}
	text := ticketText(node, expires)
	for _, s := range t.all() {
		since := time.Since(s.at)
		if since < wire.TicketFor && s.clock.Add(since).Unix() <= expires &&
			ed25519.Verify(s.public[:], text, signature) {
			return nil
		}
	}
	return ErrTicket
}

func (t *Tickets) all() (all []signer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, signers := range t.signers {
		all = append(all, signers...)
	}
	return all
}

// parseTicket reads a ticket, in the one form that [Issuer.Issue] gives it.
func parseTicket(text string) (expires int64, signature []byte, ok bool) {
	if len(text) > maxTicket {
		return 0, nil, false
	}
	number, encoded, _ := strings.Cut(text, ".")
	expires, err := strconv.ParseInt(number, 10, 64)
	if err != nil || expires < 0 || strconv.FormatInt(expires, 10) != number {
		return 0, nil, false
	}
	signature, err = base64.RawURLEncoding.Strict().DecodeString(encoded)
	return expires, signature, err == nil && len(signature) == ed25519.SignatureSize
}
