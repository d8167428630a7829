package client

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// mostShared is the number of versions that peers can read at the same time: the arriving one,
// and the one before.
const mostShared = 2

// Share lets peers read downloads from board, while they arrive and afterwards, until
// [Client.Unshare]. Call it before any download.
func (c *Client) Share(board *relay.Board) { c.sharing = &sharing{board: board} }

// Unshare takes all downloads off the board.
func (c *Client) Unshare() error {
	if c.sharing == nil {
		return nil
	}
	return c.sharing.end(0)
}

// sharing is the downloads that peers can read.
type sharing struct {
	board *relay.Board

	mu  sync.Mutex // guards all; no other lock is taken under it
	all []shared   // the newest last
}

// shared is one of these, with its bytes, which may get another name meanwhile, and those of its delta.
type shared struct {
	version *relay.Version
	bytes   partial.Reader
	delta   partial.Reader // or nil
}

// begin puts the download to out on the board, and takes the oldest one off.
func (s *sharing) begin(out *output, v shard.Version, m shard.Manifest, tier int) (*relay.Version, error) {
	bytes, err := out.content.Share()
	if err != nil {
		return nil, err
	}
	e := distfile.Entry{Version: v, Digest: m.Digest}
	version := s.board.Begin(e, m, tier, partsOf(bytes, m))
	s.board.List(e)
	s.mu.Lock()
	s.all = append(s.all, shared{version: version, bytes: bytes})
	s.mu.Unlock()
	return version, s.end(mostShared)
}

// keep has the bytes of v's delta closed when v is taken off the board. It reports whether v is on it.
func (s *sharing) keep(v *relay.Version, delta partial.Reader) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(v)
	if i >= 0 {
		s.all[i].delta = delta
	}
	return i >= 0
}

// index returns the place of v, or -1, with s locked.
func (s *sharing) index(v *relay.Version) int {
	return slices.IndexFunc(s.all, func(o shared) bool { return o.version == v })
}

// failed takes v off the board, because its download has failed.
func (s *sharing) failed(v *relay.Version) error {
	s.mu.Lock()
	i := s.index(v)
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	failed := s.all[i]
	s.all = slices.Delete(s.all, i, i+1)
	s.mu.Unlock()
	return failed.end(s.board)
}

// end takes all but the last keep versions off the board.
func (s *sharing) end(keep int) (err error) {
	s.mu.Lock()
	count := max(0, len(s.all)-keep)
	ended := slices.Clone(s.all[:count])
	s.all = slices.Delete(s.all, 0, count)
	s.mu.Unlock()
	for _, o := range ended {
		err = errors.Join(err, o.end(s.board))
	}
	return err
}

// end takes o off the board.
func (o shared) end(board *relay.Board) error {
	number := o.version.Entry.Version
	if board.Version(number) == o.version {
		board.Unlist(number)
	}
	o.version.End()
	err := o.bytes.Close()
	if o.delta != nil {
		o.version.NoDelta()
		err = errors.Join(err, o.delta.Close())
	}
	if err != nil {
		return fmt.Errorf("stop sharing %s: %w", number, err)
	}
	return nil
}

// partsOf opens the shards of the stream in bytes, which m describes.
func partsOf(bytes partial.Reader, m shard.Manifest) func(number int) (relay.File, error) {
	return func(number int) (relay.File, error) {
		of := m.Shard(number)
		return part{io.NewSectionReader(bytes, of.Offset, of.Size)}, nil
	}
}

// part is a shard in the file.
type part struct{ *io.SectionReader }

// Close does nothing: the file stays open for the other shards.
func (part) Close() error { return nil }
