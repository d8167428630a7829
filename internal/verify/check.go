package verify

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Sender is the server that sent bytes.
type Sender struct {
	Name string

	// Relayed says that it passed them on before it could know whether they were right.
	Relayed bool
}

// maxWrong is how often a shard that came from one server in several parts may be wrong
// before that server is to blame. A relay that finds a shard wrong breaks off and fetches
// it again, so that the bytes that it sent before and after do not fit; in one part it
// never sends a wrong one.
const maxWrong = 3

// A Check is the checking of one shard: it hashes bytes while they come in order, and
// remembers which server sent them. Its methods are called by one goroutine at a time.
type Check struct {
	Shard shard.Shard

	at      io.ReaderAt
	each    bool // checked by itself; hashed as it comes if that is so from the start
	hash    hash.Hash
	hashed  int64
	present int64 // bytes that were there before
	parts   int   // transfers that have brought something since it was begun anew
	wrongs  int   // how often it was wrong
	owners  []owner

	alone   bool // it comes from one server alone, and differs from before
	differs []string
	relayed []string // likewise, that relayed what differs
	strikes *strikes
}

// strikes count, by relay, the shards in which its bytes were wrong: it cannot know that
// when it passes them on, but one that is wrong again and again is to blame all the same.
type strikes struct {
	mu    sync.Mutex // guards count
	count map[string]int
}

// add adds a strike for each of relays, and returns those that have had maxWrong.
func (s *strikes) add(relays []string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, relay := range relays {
		if s.count[relay]++; s.count[relay] >= maxWrong {
			out = append(out, relay)
		}
	}
	return out
}

// owner is the server that sent a range of a shard. What no server sent was there before.
type owner struct {
	r      disk.Range
	sender Sender
}

func newCheck(s shard.Shard, at io.ReaderAt, present int64, each bool) *Check {
	return &Check{
		Shard: s, at: at, present: present, each: each, hash: sha256.New(),
		strikes: &strikes{count: make(map[string]int)},
	}
}

// Present returns how many bytes were there before the fetch, or before it was wrong.
func (c *Check) Present() int64 { return c.present }

// Wrongs returns how often the shard was wrong.
func (c *Check) Wrongs() int { return c.wrongs }

// Fetched returns how many bytes servers have sent of what is there.
func (c *Check) Fetched() (bytes int64) {
	for _, o := range c.owners {
		bytes += o.r.To - o.r.From
	}
	return bytes
}

// Alone reports whether the shard is to come from one server alone.
func (c *Check) Alone() bool { return c.alone }

// Part notes that one more transfer has brought something.
func (c *Check) Part() { c.parts++ }

// ReadBack hashes what was there before the first byte that is missing, if it is to be
// hashed at all.
func (c *Check) ReadBack(to int64, buf []byte) error {
	if !c.each {
		return nil
	}
	return c.readBack(to, buf)
}

// readBack hashes from the place up to the offset to.
func (c *Check) readBack(to int64, buf []byte) error {
	n, err := io.CopyBuffer(c.hash, struct{ io.Reader }{io.NewSectionReader(c.at, c.hashed, to-c.hashed)}, buf)
	c.hashed += n
	if err == nil && c.hashed < to {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Compare is called before data is written at offset. Where the shard comes from one
// server alone, it notes which servers sent something else before. Errors are those of the
// place.
func (c *Check) Compare(offset int64, data []byte) error {
	if !c.alone {
		return nil
	}
	r := disk.Range{From: offset, To: offset + int64(len(data))}
	old := make([]byte, len(data))
	if _, err := c.at.ReadAt(old, r.From); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, o := range c.owners {
		from, to := max(o.r.From, r.From), min(o.r.To, r.To)
		if from >= to || slices.Equal(old[from-r.From:to-r.From], data[from-r.From:to-r.From]) {
			continue
		}
		list := &c.differs
		if o.sender.Relayed {
			list = &c.relayed
		}
		if !slices.Contains(*list, o.sender.Name) {
			*list = append(*list, o.sender.Name)
		}
	}
	return nil
}

// Wrote is called after data from a sender was written at offset.
func (c *Check) Wrote(from Sender, offset int64, data []byte) {
	r := disk.Range{From: offset, To: offset + int64(len(data))}
	if offset == c.hashed && c.each {
		c.hash.Write(data)
		c.hashed = r.To
	}
	c.own(owner{r, from})
}

// own notes which server has sent a range.
func (c *Check) own(n owner) {
	if c.alone { // otherwise no byte is written twice
		var others []owner
		for _, o := range c.owners {
			if o.r.From < n.r.From {
				others = append(others, owner{disk.Range{From: o.r.From, To: min(o.r.To, n.r.From)}, o.sender})
			}
			if o.r.To > n.r.To {
				others = append(others, owner{disk.Range{From: max(o.r.From, n.r.To), To: o.r.To}, o.sender})
			}
		}
		c.owners = others
	}
	for i, o := range c.owners {
		if o.sender == n.sender && o.r.To == n.r.From {
			c.owners[i].r.To = n.r.To
			return
		}
	}
	c.owners = append(c.owners, n)
}

// SentBy reports whether all bytes before the offset to were sent by one server.
func (c *Check) SentBy(name string, to int64) bool {
	return !slices.ContainsFunc(c.owners, func(o owner) bool { return o.r.From < to && o.sender.Name != name })
}

// Senders returns the servers whose bytes are in place.
func (c *Check) Senders() []string {
	senders := make([]string, 0, len(c.owners))
	for _, o := range c.owners {
		if !slices.Contains(senders, o.sender.Name) {
			senders = append(senders, o.sender.Name)
		}
	}
	return senders
}

// Anew is called when another server begins to send the shard alone: it sends all of it.
func (c *Check) Anew() {
	c.hash.Reset()
	c.hashed, c.parts, c.differs, c.relayed = 0, 0, nil, nil
}

// Again has the shard come again after a verdict that it is wrong. What is there stays to
// be compared with where it comes from one server alone.
func (c *Check) Again(v Verdict) {
	c.wrongs++
	if c.alone = v.Alone; !c.alone {
		c.owners = nil
	}
	c.present = 0
	c.Anew()
}

// verdict checks the shard, all of which has come.
func (c *Check) verdict(buf []byte) (Verdict, error) {
	if err := c.readBack(c.Shard.Size, buf); err != nil {
		return Verdict{}, err
	}
	return c.judge(shard.Digest(c.hash.Sum(nil))), nil
}

// judge says how a shard with the digest got is.
func (c *Check) judge(got shard.Digest) Verdict {
	v := Verdict{Check: c, Got: got, Right: true, Blame: c.differs}
	if c.Shard.Digest != (shard.Digest{}) && got != c.Shard.Digest {
		v.Right, v.Blame = false, nil
		v.Err = fmt.Errorf("%w: %s instead of %s", shard.ErrDigest, got, c.Shard.Digest)
		senders := c.Senders()
		found := len(senders) == 1 && c.present == 0 && (c.parts == 1 || c.wrongs+1 >= maxWrong)
		if found {
			v.Blame = senders
		}
		v.Alone = len(senders) > 0 && !found
		return v
	}
	v.Blame = append(v.Blame, c.strikes.add(c.relayed)...)
	c.relayed = nil
	return v
}
