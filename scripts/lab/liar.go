package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// liarCommand as the first argument makes this program a liar.
	liarCommand = "liar"

	// lyingEvery is the time between two announcements of a liar.
	lyingEvery = time.Second
)

// startLiar starts a client that lies.
func startLiar(ctx context.Context, t *trial, i int, _ string) (*node, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	manifest := filepath.Join(t.stock, "v1", "manifest.json")
	p, err := t.net.start(ctx, i, self, liarCommand, net.JoinHostPort(address(i), port), t.servers(i)[0], manifest)
	if err != nil {
		return nil, err
	}
	_, err = p.Await("listening")
	return &node{process: p}, err
}

// lie joins the swarm of an upstream, if that has one, as a node at address, announces all
// shards of a manifest, and sends zeros to each peer that asks for one, until ctx ends.
func lie(ctx context.Context, address, upstream, manifest string) error {
	m, err := readManifest(manifest)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: liar(m), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() }) //nolint:errcheck // it ends
	defer stop()
	fmt.Println("listening")
	go join(ctx, "http://"+upstream+"/")
	if err := srv.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}

// join announces a peer to an upstream again and again.
func join(ctx context.Context, upstream string) {
	for ctx.Err() == nil {
		announceNode(ctx, upstream, port)
		_ = pause(ctx, lyingEvery) // or the end
	}
}

// announceNode announces a peer at a port of this host to an upstream, if that has a swarm.
func announceNode(ctx context.Context, upstream, port string) {
	if resp, err := getWith(ctx, http.DefaultClient, upstream+wire.PeersName, wire.PeerHeader, port); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// readManifest reads the manifest in a file.
func readManifest(name string) (m shard.Manifest, err error) {
	f, err := os.Open(name)
	if err != nil {
		return m, err
	}
	defer f.Close()
	return shard.ParseManifest(f)
}

// liar answers like a node that has all shards, but with zeros.
func liar(m shard.Manifest) http.Handler {
	return fakeNode(fmt.Sprintf("%c1-%d", swarm.Held, len(m.Shards)), func(w http.ResponseWriter, r *http.Request) {
		number, err := shard.ParseFileName(r.PathValue("file"))
		if err != nil || number > len(m.Shards) {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(zeros{}, 0, m.Shard(number).Size))
	})
}

// fakeNode answers like a node that has shards, in the form of package swarm, and files has
// it send them.
func fakeNode(has string, files http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /v1/"+wire.HaveName, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, has)
		for r.Context().Err() == nil {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(lyingEvery):
			case <-r.Context().Done():
			}
			fmt.Fprintln(w)
		}
	})
	mux.HandleFunc("GET /v1/{file}", files)
	return mux
}

// zeros has endless zeros.
type zeros struct{}

// ReadAt reads zeros.
func (zeros) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("before the begin")
	}
	clear(p)
	return len(p), nil
}
