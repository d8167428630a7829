// Package server is the HTTP face of a data directory. It answers from what is
// on the disk at the moment of the request, so that whatever another process
// publishes there is served at once, and knows nothing of how it came there.
//
//	GET /distribution.txt       the versions on offer
//	GET /v1/manifest.json       what version 1 consists of
//	GET /v1/shard_001.bin       one shard, also as shard_00001.bin
//	GET /healthz                200 while the server runs
//
// HEAD is answered wherever GET is (RFC 9110, section 9.3.2), any other method
// with 405, any other path with 404. Answers carry an ETag that is a digest of
// what they hold, and Cache-Control: no-cache, since a version number can come
// back with other bytes when its origin has lost its data directory. Shards are
// sent by the kernel, from the page cache to the socket.
package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// handler answers requests from a store.
type handler struct {
	store  *store.Store
	logger *slog.Logger

	mu        sync.Mutex // guards manifests
	manifests map[shard.Version]cached
}

// cached is a manifest that was read, and the file that it was read from.
type cached struct {
	file     os.FileInfo
	manifest shard.Manifest
}

// NewHandler returns a handler that serves st.
func NewHandler(st *store.Store, logger *slog.Logger) http.Handler {
	return &handler{store: st, logger: logger, manifests: make(map[shard.Version]cached)}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	// Like the Python package: a page of any site may read what is public anyway.
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Cache-Control", "no-cache")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered here", http.StatusMethodNotAllowed)
		return
	}
	if err := h.serve(w, r); err != nil {
		status := statusOf(err)
		if status == http.StatusInternalServerError {
			h.logger.Error("request failed", "path", r.URL.Path, "err", err)
		}
		http.Error(w, http.StatusText(status), status)
	}
}

// serve answers a GET or HEAD, or returns an error before it has sent anything.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Path {
	case "/" + distfile.FileName:
		return h.distribution(w, r)
	case "/healthz":
		serveText(w, r, "text/plain; charset=utf-8", []byte("ok\n"))
		return nil
	}
	directory, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	version, err := shard.ParseVersion(directory)
	if err != nil {
		return fs.ErrNotExist
	}
	if file == "manifest.json" {
		return h.manifest(w, r, version)
	}
	number, err := shard.ParseFileName(file)
	if err != nil {
		return fs.ErrNotExist
	}
	return h.shard(w, r, version, number)
}

func (h *handler) distribution(w http.ResponseWriter, r *http.Request) error {
	entries, err := h.store.Distribution()
	if err != nil {
		return err
	}
	serveText(w, r, "text/plain; charset=utf-8", distfile.Encode(entries))
	return nil
}

func (h *handler) manifest(w http.ResponseWriter, r *http.Request, version shard.Version) error {
	m, err := h.readManifest(version)
	if err != nil {
		return err
	}
	text, err := m.Encode()
	if err != nil {
		return err
	}
	serveText(w, r, "application/json", text)
	return nil
}

func (h *handler) shard(w http.ResponseWriter, r *http.Request, version shard.Version, number int) error {
	f, done, err := h.store.Shard(version, number)
	if err != nil {
		return err
	}
	defer done()
	defer f.Close()
	header := w.Header()
	// Where there is no manifest, made by another program, the shard has no ETag.
	if m, err := h.readManifest(version); err == nil && number <= len(m.Shards) {
		header.Set("ETag", etag(m.Shards[number-1]))
	}
	header.Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// readManifest returns the manifest of version, from memory if the file is still
// the same.
func (h *handler) readManifest(version shard.Version) (shard.Manifest, error) {
	f, err := h.store.Manifest(version)
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return shard.Manifest{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.manifests[version]; ok && sameFile(c.file, info) {
		return c.manifest, nil
	}
	m, err := shard.ParseManifest(f)
	if err != nil {
		return shard.Manifest{}, fmt.Errorf("%s: %w", version, err)
	}
	h.forgetSurplus()
	h.manifests[version] = cached{file: info, manifest: m}
	return m, nil
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// forgetSurplus makes room for one more manifest. The caller holds mu.
func (h *handler) forgetSurplus() {
	for version := range h.manifests {
		if len(h.manifests) < maxManifests {
			return
		}
		delete(h.manifests, version)
	}
}

// maxManifests bounds the memory that manifests take: most have a few thousand
// digests of 32 bytes, the largest possible ones 2 MiB of them.
const maxManifests = 16

func serveText(w http.ResponseWriter, r *http.Request, contentType string, text []byte) {
	header := w.Header()
	header.Set("ETag", etag(sha256.Sum256(text)))
	header.Set("Content-Type", contentType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

// etag is a strong entity tag (RFC 9110, section 8.8.3).
func etag(d shard.Digest) string {
	return `"` + d.String() + `"`
}

// statusOf is the one place where errors become HTTP statuses.
func statusOf(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}
