package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// tarType is the content type of a tree's stream.
const tarType = "application/x-tar"

// list answers with the list of files of a tree.
func (f *files) list(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := f.catalog.Find(t.version)
	if err != nil {
		return err
	}
	defer v.Close()
	list, err := f.catalog.Files(v)
	if err != nil {
		return err
	}
	defer list.Close()
	if tier, ok := v.Arriving(); ok {
		arrives(w, tier)
	}
	serve(w, r, "application/jsonl", v.Manifest.Files.Digest, list)
	return nil
}

// stream answers with all bytes of a version in order, from its shards. The digest in the
// header Repr-Digest is as in RFC 9530.
func (f *files) stream(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := f.find(w, t, wire.StreamName)
	if err != nil {
		return err
	}
	defer v.Close()
	m := v.Manifest
	content := &stream{
		ctx: r.Context(), size: m.Size, shardSize: m.ShardSize,
		open:  func(number int) (*catalog.Shard, error) { return f.catalog.Shard(v.Number, number) },
		flush: func() { _ = http.NewResponseController(w).Flush() }, // the next write fails as well
	}
	defer content.close()
	if tier, ok := v.Arriving(); ok {
		arrives(w, tier)
	}
	w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(m.Digest[:])+":")
	if named := mime.FormatMediaType("attachment", map[string]string{"filename": m.Name}); named != "" {
		w.Header().Set("Content-Disposition", named)
	}
	contentType := binary
	if m.Files != nil {
		contentType = tarType
	}
	serve(w, r, contentType, m.Digest, content)
	return nil
}

// stream reads the shards of a version one after the other, and waits for those that are
// arriving. An answer that it cannot finish is broken off.
type stream struct {
	ctx             context.Context //nolint:containedctx // of the one request that reads
	size, shardSize int64
	open            func(number int) (*catalog.Shard, error)
	flush           func() // sends the bytes that were read

	offset int64
	shard  *catalog.Shard // with the offset, or nil
	number int            // of the shard
}

// Seek goes to an offset, without opening a shard.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.offset
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start of a stream")
	}
	s.offset = offset
	return offset, nil
}

// Read reads bytes of one shard.
func (s *stream) Read(p []byte) (int, error) {
	if s.offset >= s.size {
		return 0, io.EOF
	}
	number := int(s.offset/s.shardSize) + 1
	if s.number != number {
		s.close()
		opened, err := s.open(number)
		if err != nil {
			return 0, fmt.Errorf("shard %d: %w", number, err)
		}
		s.shard, s.number = opened, number
	}
	within := s.offset % s.shardSize
	p = p[:min(int64(len(p)), s.shardSize-within)]
	n, err := s.readShard(p, within)
	s.offset += int64(n)
	return n, err
}

// readShard reads bytes of the shard from the offset within it on.
func (s *stream) readShard(p []byte, within int64) (int, error) {
	if s.shard.File == nil {
		if s.shard.Ready(within) == 0 {
			s.flush()
		}
		ready, err := s.shard.Await(s.ctx, within, wire.ShardWait)
		if err != nil {
			return 0, err
		}
		return s.shard.ReadAt(p[:min(int64(len(p)), ready)], within)
	}
	if _, err := s.shard.File.Seek(within, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := s.shard.File.Read(p)
	if errors.Is(err, io.EOF) {
		err = shard.ErrSize
	}
	return n, err
}

// close gives back the shard.
func (s *stream) close() {
	if s.shard != nil {
		_ = s.shard.Close()
	}
	s.shard, s.number = nil, 0
}
