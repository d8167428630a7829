//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/match"
)

const (
	// codecCommand as the first argument makes this program encode or apply one delta, without
	// digests and HTTP.
	codecCommand = "delta"

	encoding = "encode"
	applying = "apply"

	// unwritten in place of a target's file means that its bytes go nowhere.
	unwritten = "-"

	// listOf ends the name of the list of the files of a stream, where it is a directory's.
	listOf = ".files"
)

// codec encodes or applies a delta. It looks for copies as publishing does.
func codec(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: bench delta encode|apply BASE TARGET DELTA")
	}
	base, err := openStream(args[1])
	if err != nil {
		return err
	}
	defer base.file.Close()
	if args[0] == encoding {
		return encode(ctx, base, args[2], args[3])
	}
	return apply(ctx, base, args[2], args[3])
}

// A stream is a file, which may be the stream of a directory.
type stream struct {
	*io.SectionReader

	file  *os.File
	files []match.File // of a directory
}

// openStream opens a file, and reads the list of the directory's files, if there is one.
func openStream(name string) (s *stream, err error) {
	s = new(stream)
	if s.file, err = os.Open(name); err != nil {
		return nil, err
	}
	info, err := s.file.Stat()
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	s.SectionReader = io.NewSectionReader(s.file, 0, info.Size())
	text, err := os.ReadFile(name + listOf)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s.files)
	}
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// encode writes the delta that turns base into a target.
func encode(ctx context.Context, base *stream, targetName, deltaName string) error {
	target, err := openStream(targetName)
	if err != nil {
		return err
	}
	defer target.file.Close()
	var copies []delta.Copy
	if base.files != nil && target.files != nil {
		copies, err = match.Trees(ctx, base, target, base.files, target.files)
	} else {
		copies, err = match.Streams(ctx, base, target)
	}
	if err != nil {
		return err
	}
	out, err := os.Create(deltaName)
	if err != nil {
		return err
	}
	stats, err := delta.Encode(ctx, out, base, target, copies)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	fmt.Printf("%d copies, %d bytes\n", len(copies), stats.Size)
	return nil
}

// nowhere takes all bytes.
type nowhere struct{}

// WriteAt takes p.
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// apply writes the target of a delta of base.
func apply(ctx context.Context, base *stream, targetName, deltaName string) error {
	in, err := os.Open(deltaName)
	if err != nil {
		return err
	}
	defer in.Close()
	reader, err := delta.NewReader(bufio.NewReaderSize(in, pieceSize))
	if err != nil {
		return err
	}
	if h := reader.Header(); h.BaseSize != base.Size() {
		return fmt.Errorf("the delta is for a base of %d bytes, not %d", h.BaseSize, base.Size())
	}
	if targetName == unwritten {
		return reader.Apply(ctx, base, nowhere{}, delta.Progress{})
	}
	out, err := os.Create(targetName)
	if err != nil {
		return err
	}
	return errors.Join(reader.Apply(ctx, base, out, delta.Progress{}), out.Close())
}
