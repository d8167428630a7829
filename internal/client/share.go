package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// mostShared is how many versions others can read here at the same time: one that comes,
// and the one before.
const mostShared = 2

// Share has others read from board what downloads bring, while it comes and afterwards,
// until [Client.Unshare]. It is called before any download.
func (c *Client) Share(board *relay.Board) { c.sharing = &sharing{board: board} }

// Unshare ends that.
func (c *Client) Unshare() error {
	if c.sharing == nil {
		return nil
	}
	return c.sharing.end(0)
}

// sharing is what others can read.
type sharing struct {
	board *relay.Board

	mu  sync.Mutex // guards all
	all []*shared  // the newest last
}

// shared is one version of that, and its file, which may get another name meanwhile.
type shared struct {
	*relay.Version

	file *os.File
}

// begin has others read what comes to out. It returns nil if nobody is to.
func (s *sharing) begin(out *output, v shard.Version, m shard.Manifest, tier int) (*relay.Version, error) {
	if s == nil {
		return nil, nil //nolint:nilnil // as it says
	}
	file, err := out.dir.Open(tempName(out.base))
	if err != nil {
		return nil, err
	}
	e := distfile.Entry{Version: v, Digest: m.Digest}
	version := s.board.Begin(e, m, tier, func(number int) (relay.File, error) {
		of := m.Shard(number)
		return part{io.NewSectionReader(file, of.Offset, of.Size)}, nil
	})
	s.board.List(e)
	s.mu.Lock()
	s.all = append(s.all, &shared{version, file})
	s.mu.Unlock()
	return version, s.end(mostShared)
}

// failed has nobody read a version that does not come. It may be called of none.
func (s *sharing) failed(v *relay.Version) error {
	if s == nil || v == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(o *shared) bool { return o.Version == v })
	if i < 0 {
		return nil
	}
	failed := s.all[i]
	s.all = slices.Delete(s.all, i, i+1)
	return failed.end(s.board)
}

// end has nobody read any but the last keep versions.
func (s *sharing) end(keep int) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.all) > keep {
		err = errors.Join(err, s.all[0].end(s.board))
		s.all = s.all[1:]
	}
	return err
}

func (s *shared) end(board *relay.Board) error {
	if board.Version(s.Entry.Version) == s.Version {
		board.Unlist(s.Entry.Version)
	}
	s.End()
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("stop sharing %s: %w", s.Entry.Version, err)
	}
	return nil
}

// part is a shard in the file.
type part struct{ *io.SectionReader }

// Close has nothing to give back.
func (part) Close() error { return nil }
