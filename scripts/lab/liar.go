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
	f, err := os.Open(manifest)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := shard.ParseManifest(f)
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
	go join(ctx, upstream)
	if err := srv.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}

// join announces a peer to an upstream again and again.
func join(ctx context.Context, upstream string) {
	tick := time.NewTicker(lyingEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+upstream+"/"+wire.PeersName, http.NoBody)
		if err != nil {
			return
		}
		r.Header.Set(wire.PeerHeader, port)
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// liar answers like a node that has all shards, but with zeros.
func liar(m shard.Manifest) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /v1/"+wire.HaveName, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%c1-%d\n", swarm.Held, len(m.Shards))
		for r.Context().Err() == nil {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(lyingEvery):
			case <-r.Context().Done():
			}
			fmt.Fprintln(w)
		}
	})
	mux.HandleFunc("GET /v1/{file}", func(w http.ResponseWriter, r *http.Request) {
		number, err := shard.ParseFileName(r.PathValue("file"))
		if err != nil || number > len(m.Shards) {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(zeros{}, 0, m.Shard(number).Size))
	})
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
