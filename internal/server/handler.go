// Package server is the HTTP face of a data directory. It answers from what is
// on the disk, and arriving there, at the moment of the request, so that whatever
// another process publishes there is served at once, and knows nothing of how it
// came there.
//
//	GET /distribution.txt       the versions on offer
//	GET /v1/manifest.json       what version 1 consists of
//	GET /v1/SHA256SUMS          the digests of its shards, for sha256sum -c
//	GET /v1/have?digest=...     which shards are here, while it becomes more; see package swarm
//	GET /v1/shard_001.bin       one shard, also as shard_00001.bin
//	GET /healthz                200 while the server runs
//	GET /readyz                 200 while it serves the newest version that there is, or 503 and why not
//	GET /metrics                what it counts, for Prometheus
//	GET /peers.txt              who else follows the server, if it has a swarm
//	GET /                       what it has and does, for people; see package status
//	GET /status.json            the same for programs
//	GET /data1.bin              bytes to measure the server by; in the dialect of 0.3
//
// HEAD is answered wherever GET is (RFC 9110, section 9.3.2), any other method
// with 405, but for what a browser asks before a page's request (OPTIONS), and any
// other path with 404. Answers carry an ETag that is a digest of what they hold. Shards
// are sent by the kernel, from the page cache to the socket, unless a rate is set.
//
// # Dialects
//
// The Python package knows a version by the SHA-256 of its file up to 0.1, and by the
// BLAKE3 and the number of shards from 0.3 on. All paths are answered in one [Dialect]
// below /py01, in the other below /py03, and at the root in that of [Options]. They
// differ in distribution.txt and data1.bin. The text of 0.3 is made of manifests; a
// version whose BLAKE3 stands in none is left out of it. One without a manifest was put
// there by another program, and is listed in both dialects as that one lists it, but for
// the number in that of 0.1.
//
// # Caches
//
// Cache-Control is no-cache, since a version number can come back with other bytes when
// its origin has lost its data directory. Who names what he asks for, by the digest of
// the shard or, for a manifest, either digest of the file, as in
//
//	GET /v1/shard_001.bin?digest=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//
// gets an answer that may be kept for ever, unless it is still arriving or its digest is
// not known, or 404 if what is here is something else.
//
// # Waiting
//
// A GET of distribution.txt with If-None-Match and Prefer: wait=N (RFC 7240, section
// 4.3) is held, while a server runs ([Serve]), until the text is none of those that
// If-None-Match names, and for N seconds, or 300, at most; N is 1 or more. Then, or at
// once where there is nothing to wait for, it is answered like any other, with 200 or
// 304, and with Preference-Applied: wait=N, by which a client knows that this server
// can wait. A server that is told to end answers those that it holds. They count for
// no limit.
//
// # Swarms
//
// With [Options.Members] a GET of peers.txt is answered with at most 16 URLs, one a line,
// of nodes that follow this server and can be reached. By the field Shardcast-Peer the
// asker becomes one of them for 15 s: it is his port, or 0 to become nobody's peer. The
// answer's says what became of that: pending, listed, unreachable or refused.
//
// Nodes, which say that they are by Shardcast-Swarm,
// are sent eight shards at the same time; two more requests wait for up to 2 s, and others
// are answered with 503 and Retry-After: 0. "Shardcast-Swarm: fresh" wants a shard only if
// no node was sent it before, and gets 409 otherwise; "upstream" wants it anyhow; "peer"
// is given one that is still arriving only if it comes from a node that holds all of it,
// and gets 404 otherwise.
//
// # Watching
//
// [Options] may have each answer counted, see package metrics, and a line written for it
// in the Combined Log Format. Both see the bytes on their way to the connection, 256 KiB
// at a time, and leave it to the kernel to send them.
//
// # Limits
//
// [Limits] hold for GETs of shards; all else is small and answered always, data1.bin at
// the rate of shards. A GET
// beyond the number of them that may be under way is answered with 503 and
// Retry-After, before anything of the shard is opened. A rate is kept by a bucket
// that holds 50 ms of it, 1 KiB at least, and is full at first; shards are sent
// from it in steps of at most that and 32 KiB. Readers that share a bucket take
// turns, so each gets the same, and one that leaves gives up its turn. Where two
// rates apply, the lower one wins. Of a client, which is an IP address, nothing is
// known any more once nothing is being sent to it and its bucket is full again.
package server

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// handler answers requests from a store.
type handler struct {
	store       *store.Store // or nil, for what is on the board alone
	board       *relay.Board
	dialect     Dialect    // at the root
	listings    []*listing // by dialect
	logger      *slog.Logger
	gate        *gate
	metrics     *metrics.Metrics
	accessLog   *accessLog
	swarm       *swarming
	status      *statusPage  // nil for none
	ready       func() error // nil is for always
	members     *swarm.Members
	probe       func() ([]byte, shard.Digest)
	every       time.Duration   // the data directory is looked at; see lookEvery
	bodyTimeout time.Duration   // for what nobody reads of a request
	over        <-chan struct{} // closed when no request may be held any more, or nil if none may be

	mu        sync.Mutex // guards manifests
	manifests map[shard.Version]cached
}

// cached is a manifest that was read, and the file that it was read from.
type cached struct {
	shard.Manifest

	file os.FileInfo
	tag  shard.Digest // of the manifest's own text
}

// Options say what is served. Store and Logger are required.
type Options struct {
	// Store is the data directory.
	Store *store.Store

	// Board is what is arriving there. Nil is for nothing.
	Board *relay.Board

	// Dialect is what is spoken where a path does not say which. Zero is Dialect01.
	Dialect Dialect

	// Limits bound what is sent. The zero value sets no limit.
	Limits Limits

	// Metrics count what is answered. Nil counts nothing, and has no /metrics.
	Metrics *metrics.Metrics

	// AccessLog receives a line for each answer, in one call of Write and never two at the
	// same time. Nil is for none.
	AccessLog io.Writer

	// Status has the server show what it does at / and /status.json. Nil is for no such
	// page.
	Status *Status

	// Ready returns why the newest version that there is somewhere is not served here, or
	// nil. Nil is for a server that has all there is.
	Ready func() error

	// Members are those who follow this server and swap shards. Nil is for none, and has no
	// /peers.txt. With them, and without a Store, nodes are told what there is of each
	// version, and sent shards as package swarm says.
	Members *swarm.Members

	// Logger receives what happens.
	Logger *slog.Logger
}

// NewHandler returns a handler that serves what opts say.
func NewHandler(opts Options) http.Handler { return newHandler(opts) }

func newHandler(opts Options) *handler {
	opts.Board = cmp.Or(opts.Board, relay.NewBoard())
	h := &handler{
		store: opts.Store, board: opts.Board, dialect: opts.Dialect, logger: opts.Logger, gate: newGate(opts.Limits),
		metrics: opts.Metrics, accessLog: newAccessLog(opts.AccessLog, opts.Logger), ready: opts.Ready, members: opts.Members,
		probe: sync.OnceValues(newProbe), every: lookEvery, bodyTimeout: headerTimeout, manifests: make(map[shard.Version]cached),
	}
	if opts.Members != nil || opts.Store == nil {
		h.swarm = newSwarming()
	}
	for d := range dialects {
		h.listings = append(h.listings, newListing(opts, d))
	}
	h.metrics.Measure(h.measure)
	if opts.Status != nil {
		h.status = newStatusPage(h, *opts.Status)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := h.target(r.URL.Path)
	if h.metrics != nil || h.accessLog != nil || h.status != nil {
		c := h.count(w, r, t)
		defer c.end()
		w = c
	}
	h.answer(w, r, t)
}

// target is what a path asks for.
type target struct {
	kind    metrics.Kind // Other if there is no such thing
	dialect Dialect
	version shard.Version
	number  int // of the shard
}

// target reads a path.
func (h *handler) target(path string) target {
	// Exactly these: a Python client that is given http://host/ asks for what begins with
	// two slashes.
	if h.status != nil && (path == pagePath || path == statusPath) {
		return target{kind: metrics.Status}
	}
	dialect, path := h.spoken(path)
	t := target{dialect: dialect}
	switch path {
	case distfile.FileName:
		t.kind = metrics.Distribution
	case wire.HealthName:
		t.kind = metrics.Health
	case wire.ReadyName:
		t.kind = metrics.Ready
	case wire.MetricsName:
		t.kind = metrics.Scrape
	case wire.PeersName:
		t.kind = metrics.Peers
	case wire.ProbeName:
		t.kind = metrics.Probe
	default:
		directory, file, _ := strings.Cut(path, "/")
		var err error
		if t.version, err = shard.ParseVersion(directory); err != nil {
			return t
		}
		switch file {
		case shard.ManifestName:
			t.kind = metrics.Manifest
		case shard.SumsName:
			t.kind = metrics.Sums
		case wire.HaveName:
			t.kind = metrics.Have
		default:
			if t.number, err = shard.ParseFileName(file); err == nil {
				t.kind = metrics.Shard
			}
		}
	}
	return t
}

// answer answers a request for t.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, t target) {
	header := w.Header()
	// Like the Python package: a page of any site may read what is public anyway.
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", exposed)
	header.Set("Cache-Control", noCache)
	if r.ContentLength != 0 {
		// Nobody reads a body here, but the next request comes only after it.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTimeout))
	}
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		preflight(w)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered here", http.StatusMethodNotAllowed)
		return
	}
	if err := h.serve(w, r, t); err != nil {
		header.Set("Cache-Control", noCache)
		status := statusOf(err)
		text := http.StatusText(status)
		switch status {
		case http.StatusInternalServerError:
			h.logger.Error("request failed", "path", r.URL.Path, "err", err)
		case http.StatusServiceUnavailable:
			h.logger.Debug("shard refused", "path", r.URL.Path, "client", r.RemoteAddr, "err", err)
			after := wire.BusyRetry
			if errors.Is(err, errNoSlot) {
				after = wire.SwarmRetry
			}
			header.Set("Retry-After", strconv.Itoa(int(after.Seconds())))
			text = err.Error()
		}
		http.Error(w, text, status)
	}
}

// serve answers a GET or HEAD, or returns an error before it has sent anything.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, t target) error {
	if h.store == nil && t.kind != metrics.Shard && t.kind != metrics.Have && t.kind != metrics.Health {
		return fs.ErrNotExist
	}
	switch t.kind {
	case metrics.Distribution:
		return h.distribution(w, r, t.dialect)
	case metrics.Health:
		serveText(w, r, plainText, []byte(wire.Healthy))
		return nil
	case metrics.Ready:
		h.readiness(w, r)
		return nil
	case metrics.Scrape:
		return h.scrape(w, r)
	case metrics.Peers:
		return h.peers(w, r)
	case metrics.Status:
		return h.status.serve(w, r)
	case metrics.Probe:
		return h.measureBy(w, r, t.dialect)
	case metrics.Manifest:
		return h.manifest(w, r, t.version)
	case metrics.Sums:
		return h.sums(w, r, t.version)
	case metrics.Have:
		return h.have(w, r, t.version)
	case metrics.Shard:
		return h.shard(w, r, t.version, t.number)
	default:
		return fs.ErrNotExist
	}
}

func (h *handler) distribution(w http.ResponseWriter, r *http.Request, dialect Dialect) error {
	o, err := h.offered(w, r, h.listings[dialect])
	if err != nil {
		return err
	}
	serve(w, r, plainText, o.digest, bytes.NewReader(o.text))
	return nil
}

func (h *handler) manifest(w http.ResponseWriter, r *http.Request, version shard.Version) error {
	if found, err := h.arrivingManifest(w, r, version); found {
		return err
	}
	f, err := h.store.Manifest(version)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := h.readManifest(version, f)
	if err != nil {
		return err
	}
	if err := pin(w, r, m.Digest, m.BLAKE3); err != nil {
		return err
	}
	// From the file, for readers that take their time hold no memory then.
	serve(w, r, "application/json", m.tag, f)
	return nil
}

// sums answers with the digests of a version's shards, for sha256sum -c.
func (h *handler) sums(w http.ResponseWriter, r *http.Request, version shard.Version) error {
	v, m, err := h.arrivingVersion(version)
	switch {
	case err != nil:
		return err
	case v != nil:
		arrives(w, v)
	default:
		f, err := h.store.Manifest(version)
		if err != nil {
			return err
		}
		defer f.Close()
		c, err := h.readManifest(version, f)
		if err != nil {
			return err
		}
		m = c.Manifest
	}
	serveText(w, r, plainText, shard.SHA256SUMS(m.Shards))
	return nil
}

func (h *handler) shard(w http.ResponseWriter, r *http.Request, version shard.Version, number int) error {
	var buckets []*bucket.Bucket
	if r.Method == http.MethodGet {
		var leave func()
		var err error
		if buckets, leave, err = h.gate.enter(r.RemoteAddr); err != nil {
			return err
		}
		defer leave()
		if h.gate.isCrowded() {
			h.holdLittle(r)
		}
	}
	leave, err := h.enterSwarm(r, version, number)
	if err != nil {
		return err
	}
	defer leave()
	if found, err := h.arrivingShard(w, r, version, number, buckets); found {
		return err
	}
	if h.store == nil {
		return fs.ErrNotExist
	}
	before := h.shardDigest(version, number)
	f, done, err := h.store.Shard(version, number)
	if err != nil {
		return err
	}
	defer done()
	defer f.Close()
	digest := h.shardDigest(version, number)
	if digest != before {
		digest = shard.Digest{} // the version was replaced just now
	}
	if err := pin(w, r, digest); err != nil {
		return err
	}
	serve(w, r, "application/octet-stream", digest, throttle(r.Context(), f, buckets))
	return nil
}

// shardDigest returns the digest of a shard, or zero where there is no manifest
// to tell it, as in a directory of another program's.
func (h *handler) shardDigest(version shard.Version, number int) shard.Digest {
	f, err := h.store.Manifest(version)
	if err != nil {
		return shard.Digest{}
	}
	defer f.Close()
	m, err := h.readManifest(version, f)
	if err != nil || number > len(m.Shards) {
		return shard.Digest{}
	}
	return m.Shards[number-1]
}

// readManifest returns the manifest f of version, from memory if the file is still the
// same.
func (h *handler) readManifest(version shard.Version, f *os.File) (cached, error) {
	info, err := f.Stat()
	if err != nil {
		return cached{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.manifests[version]; ok && sameFile(c.file, info) {
		return c, nil
	}
	text := sha256.New()
	m, err := shard.ParseManifest(io.TeeReader(f, text))
	if err != nil {
		return cached{}, fmt.Errorf("%s: %w", version, err)
	}
	h.forgetSurplus()
	c := cached{Manifest: m, file: info, tag: shard.Digest(text.Sum(nil))}
	h.manifests[version] = c
	return c, nil
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

// plainText is the content type of text for people and simple programs.
const plainText = "text/plain; charset=utf-8"

func serveText(w http.ResponseWriter, r *http.Request, contentType string, text []byte) {
	serve(w, r, contentType, sha256.Sum256(text), bytes.NewReader(text))
}

// serve sends content under its digest as a strong entity tag (RFC 9110, section
// 8.8.3), or under none if the digest is zero.
func serve(w http.ResponseWriter, r *http.Request, contentType string, digest shard.Digest, content io.ReadSeeker) {
	header := w.Header()
	if digest != (shard.Digest{}) {
		header.Set("ETag", `"`+digest.String()+`"`)
	}
	header.Set("Content-Type", contentType)
	http.ServeContent(w, r, "", time.Time{}, content)
}

// statusOf is the one place where errors become HTTP statuses.
func statusOf(err error) int {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, errSent):
		return http.StatusConflict
	case errors.Is(err, errBusy), errors.Is(err, errNoSlot), errors.Is(err, errLater):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
