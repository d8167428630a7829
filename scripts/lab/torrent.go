package main

import (
	"context"
	"crypto/sha1" // BitTorrent has it (BEP 3)
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
)

const (
	// trackerCommand as the first argument makes this program a tracker.
	trackerCommand = "tracker"

	trackerPort = "6969"

	// interval in seconds is the time between two requests of a node to the tracker.
	// Later nodes connect to earlier ones, so that it does not matter much.
	interval = 10

	// pieces is the number of pieces of a torrent, about.
	pieces = 1000
)

// announce is the URL of the tracker.
func announce() string { return "http://" + address(0) + ":" + trackerPort + "/announce" }

// torrentFile is the torrent, which all nodes have from the start.
func (l *lab) torrentFile() string { return filepath.Join(l.dir, "file.torrent") }

// torrent is the metainfo of a file (BEP 3).
func torrent(f file.File, tracker string) ([]byte, error) {
	size := int64(256 << 10)
	for size < 4<<20 && int64(f.Size)/size > pieces {
		size *= 2
	}
	in, err := os.Open(f.Name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var digests strings.Builder
	for rest := int64(f.Size); rest > 0; rest -= size {
		h := sha1.New()
		if _, err := io.CopyN(h, in, min(rest, size)); err != nil {
			return nil, err
		}
		digests.Write(h.Sum(nil))
	}
	return fmt.Appendf(nil, "d8:announce%s4:infod6:lengthi%de4:name%s12:piece lengthi%de6:pieces%see",
		bencoded(tracker), f.Size, bencoded(filepath.Base(f.Name)), size, bencoded(digests.String())), nil
}

// bencoded is a string as BitTorrent writes it.
func bencoded(s string) string { return strconv.Itoa(len(s)) + ":" + s }

func startTorrent(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	args := append([]string{
		"--dir", dir, "--seed-ratio=0", "--listen-port=6881", "--enable-dht=false", "--bt-enable-lpd=false",
		"--enable-peer-exchange=true", "--bt-external-ip=" + address(i), "--bt-save-metadata=false",
	}, ariaQuiet()...)
	if t.plan[i].role == origin {
		return t.seed(ctx, args)
	}
	// It has no message for the whole file, but calls a program when it has that.
	p, err := t.net.start(ctx, i, "aria2c", append(args, "--on-bt-download-complete=echo", t.lab.torrentFile())...)
	if err != nil {
		return nil, err
	}
	return &node{
		process: p, output: filepath.Join(dir, filepath.Base(t.lab.file.Name)),
		held: func() (time.Time, error) {
			return awaited(p, `(?m)^[0-9a-f]{16} 1 `)
		},
	}, nil
}

// seed starts the tracker, and on the same node an aria2c that has the file.
func (t *trial) seed(ctx context.Context, args []string) (*node, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	tracker, err := t.net.start(ctx, 0, self, trackerCommand, net.JoinHostPort(address(0), trackerPort))
	if err != nil {
		return nil, err
	}
	if _, err := tracker.Await(`listening`); err != nil {
		return nil, err
	}
	// Of two --dir the last one holds.
	args = append(args, "--dir="+filepath.Dir(t.lab.file.Name),
		"--bt-seed-unverified", "--check-integrity=false", t.lab.torrentFile())
	if _, err := t.net.start(ctx, 0, "aria2c", args...); err != nil {
		return nil, err
	}
	_, err = tracker.Await(`announced`)
	return &node{process: tracker}, err
}

// A tracker lists to each node of a torrent the other ones.
type tracker struct {
	mu    sync.Mutex // guards nodes
	nodes map[netip.AddrPort]struct{}
}

func newTracker() *tracker { return &tracker{nodes: make(map[netip.AddrPort]struct{})} }

// track is a tracker for one torrent until ctx ends.
func track(ctx context.Context, address string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: newTracker(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() }) //nolint:errcheck // it ends
	defer stop()
	fmt.Println("listening")
	if err := srv.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}

// ServeHTTP answers a node with the others, in the compact form (BEP 23).
func (t *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node, err := announced(r.RemoteAddr, r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Println("announced", node, r.URL.Query().Get("event"))
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.URL.Query().Get("event") == "stopped" {
		delete(t.nodes, node)
	} else {
		t.nodes[node] = struct{}{}
	}
	var others []byte
	for other := range t.nodes {
		if other != node {
			others = append(others, other.Addr().AsSlice()...)
			others = append(others, byte(other.Port()>>8), byte(other.Port()))
		}
	}
	fmt.Fprintf(w, "d8:intervali%de12:min intervali%de5:peers%se", interval, interval, bencoded(string(others)))
}

// announced is the address at which a node listens.
func announced(remote string, query url.Values) (netip.AddrPort, error) {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return from, err
	}
	port, err := strconv.ParseUint(query.Get("port"), 10, 16)
	return netip.AddrPortFrom(from.Addr().Unmap(), uint16(port)), err
}
