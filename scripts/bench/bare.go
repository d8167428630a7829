//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// bareCommand as the first argument makes this program the bare one.
const bareCommand = "bare"

const (
	pieceSize = 256 << 10 // bytes to receive, hash and write at once
	pieces    = 64        // at the same time
)

// A piece is some bytes of the file, until they are both hashed and written.
type piece struct {
	data []byte
	left atomic.Int32
}

// bare downloads the URLs in a list, one after the other over one connection, into one
// file, and prints its digest. It does only the necessary: it receives on one goroutine,
// hashes on another and writes on a third. There is no recovery, no second server, no
// digest of a shard, and no sync without the argument. That makes it the limit for a
// program here.
func bare(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: bench bare LIST FILE [sync]")
	}
	address, paths, err := readList(args[0])
	if err != nil {
		return err
	}
	conn, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.hangUp()
	f, err := os.Create(args[1])
	if err != nil {
		return err
	}
	defer f.Close()

	p := newPipe(f)
	for _, path := range paths {
		if err = p.receive(conn, path); err != nil {
			break
		}
	}
	digest, writeErr := p.end()
	if err := errors.Join(err, writeErr); err != nil {
		return err
	}
	if len(args) > 2 {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	fmt.Printf("%x\n", digest)
	return f.Close()
}

// A pipe hashes and writes pieces, both in their order.
type pipe struct {
	free, hashing, writing chan *piece

	group  sync.WaitGroup
	digest hash.Hash // once group is done
	err    error     // of writing, once group is done
}

func newPipe(w io.Writer) *pipe {
	queue := func() chan *piece { return make(chan *piece, pieces) }
	p := &pipe{free: queue(), hashing: queue(), writing: queue(), digest: sha256.New()}
	for range pieces {
		p.free <- &piece{data: make([]byte, pieceSize)}
	}
	p.group.Go(func() {
		for x := range p.hashing {
			p.digest.Write(x.data)
			p.done(x)
		}
	})
	p.group.Go(func() {
		for x := range p.writing {
			if p.err == nil {
				_, p.err = w.Write(x.data)
			}
			p.done(x)
		}
	})
	return p
}

// done frees a piece at the second of its two calls.
func (p *pipe) done(x *piece) {
	if x.left.Add(-1) == 0 {
		p.free <- x
	}
}

// end waits until all is hashed and written.
func (p *pipe) end() ([]byte, error) {
	close(p.hashing)
	close(p.writing)
	p.group.Wait()
	return p.digest.Sum(nil), p.err
}

// receive reads the file at path.
func (p *pipe) receive(conn *connection, path string) error {
	resp, err := conn.ask(path, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	for rest := resp.ContentLength; rest > 0; {
		x := <-p.free
		x.data = x.data[:min(rest, pieceSize)]
		if _, err := io.ReadFull(resp.Body, x.data); err != nil {
			return err
		}
		rest -= int64(len(x.data))
		x.left.Store(2)
		p.hashing <- x
		p.writing <- x
	}
	return nil
}

// readList reads URLs of one server, one a line.
func readList(name string) (address string, paths []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		u, err := url.Parse(strings.TrimSpace(lines.Text()))
		if err != nil {
			return "", nil, err
		}
		address, paths = u.Host, append(paths, u.Path)
	}
	return address, paths, lines.Err()
}
