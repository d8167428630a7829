package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// errLater means that a shard is on offer, and not to be had now.
var errLater = errors.New("the shard has not arrived yet")

// arrives says in an answer's header that v is still arriving, so that what is
// answered may yet turn out wrong.
func arrives(w http.ResponseWriter, v *relay.Version) {
	w.Header().Set(wire.TierHeader, strconv.Itoa(v.Tier))
	w.Header().Set("Cache-Control", noCache)
}

// arrivingManifest answers with the manifest of a version that is on offer before it
// is held, and reports whether it is that.
func (h *handler) arrivingManifest(w http.ResponseWriter, r *http.Request, version shard.Version) (bool, error) {
	v, m, err := h.arrivingVersion(version)
	if v == nil {
		return err != nil, err
	}
	text, err := v.Text()
	if err != nil {
		return true, err
	}
	if err := pin(w, r, m.Digest, m.BLAKE3); err != nil {
		return true, err
	}
	arrives(w, v)
	serveText(w, r, "application/json", text)
	return true, nil
}

// arrivingVersion returns a version that is on offer before it is held, with its
// manifest, or nil if it is not that.
func (h *handler) arrivingVersion(version shard.Version) (*relay.Version, shard.Manifest, error) {
	if !h.board.Lists(version) {
		return nil, shard.Manifest{}, nil
	}
	if v := h.board.Version(version); v != nil && v.HasDigests() {
		return v, v.Manifest, nil
	}
	return nil, shard.Manifest{}, fmt.Errorf("%w, nor the manifest", errLater)
}

// arrivingShard answers with a shard of a version that is arriving, and reports
// whether it is that.
func (h *handler) arrivingShard(w http.ResponseWriter, r *http.Request, version shard.Version, number int, buckets []*bucket.Bucket) (bool, error) {
	v := h.board.Version(version)
	switch {
	case v == nil && h.board.Lists(version):
		return true, errLater
	case v == nil || number > len(v.Manifest.Shards):
		return false, nil
	}
	s := v.Shard(number)
	digest := v.Manifest.Shards[number-1]
	if err := pin(w, r, digest); err != nil {
		return true, err
	}
	if s.Verified() {
		f, err := v.Open(number)
		if errors.Is(err, relay.ErrBroken) {
			return h.board.Lists(version), errLater
		}
		if err != nil {
			return true, err
		}
		defer f.Close()
		serve(w, r, "application/octet-stream", digest, throttle(r.Context(), f, buckets))
		return true, nil
	}
	if h.swarm != nil && r.Header.Get(wire.SwarmHeader) == swarm.AsPeer && !s.Direct() {
		return true, fs.ErrNotExist
	}
	if asker, err := strconv.Atoi(r.Header.Get(wire.TierHeader)); err == nil && asker <= v.Tier {
		return true, errLater
	}
	reader := s.Reader()
	defer reader.Close()
	patience := wire.ShardWait
	if wait, ok := wire.PreferredWait(r.Header.Values("Prefer")); ok {
		patience = wait
	}
	arrives(w, v)
	if strings.Contains(r.Header.Get("Range"), ",") {
		// Of several ranges a goroutine of net/http would read, and so flush, while another
		// one writes; and go on after we have left. To ignore them is allowed (RFC 9110,
		// section 14.2).
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	late := &lateStatus{ResponseWriter: w}
	content := &arriving{
		ReadSeeker: throttle(r.Context(), io.NewSectionReader(reader, 0, s.Size()), buckets),
		ctx:        r.Context(), reader: reader, patience: patience, flush: late.flush,
	}
	serve(late, r, "application/octet-stream", digest, content)
	if content.err != nil && !late.sent {
		for _, name := range []string{"Content-Range", "ETag", wire.TierHeader} {
			w.Header().Del(name)
		}
		return true, fmt.Errorf("%w: %w", errLater, content.err)
	}
	// An answer that is shorter than it was announced to be has its connection broken
	// off by the server, so that it does not look like a whole one.
	late.send()
	return true, nil
}

// arriving reads a shard while it arrives.
type arriving struct {
	io.ReadSeeker // what has arrived

	ctx      context.Context //nolint:containedctx // of the request, whose end frees who waits
	reader   *relay.Reader
	offset   int64
	patience time.Duration
	flush    func() // sends what has been read
	err      error  // why the rest does not come
}

// Seek goes to an offset, without waiting for what is there.
func (a *arriving) Seek(offset int64, whence int) (int64, error) {
	var err error
	a.offset, err = a.ReadSeeker.Seek(offset, whence)
	return a.offset, err
}

// Read reads what there is as soon as there is something.
func (a *arriving) Read(p []byte) (int, error) {
	ready := a.reader.Ready(a.offset)
	if ready == 0 {
		a.flush()
	}
	if ready, a.err = a.reader.Await(a.ctx, a.offset, a.patience); a.err != nil {
		return 0, a.err
	}
	n, err := a.ReadSeeker.Read(p[:min(int64(len(p)), ready)])
	a.offset += int64(n)
	return n, err
}

// lateStatus sends a status with the first byte of what it announces, so that
// another one can be sent if that does not come.
type lateStatus struct {
	http.ResponseWriter

	status int
	sent   bool
}

// WriteHeader takes note of the status.
func (l *lateStatus) WriteHeader(status int) { l.status = status }

// Write sends p, and the status before it.
func (l *lateStatus) Write(p []byte) (int, error) {
	l.send()
	return l.ResponseWriter.Write(p)
}

// flush has what was written go on its way.
func (l *lateStatus) flush() {
	if l.sent {
		_ = http.NewResponseController(l.ResponseWriter).Flush() // the next write fails as well
	}
}

// send sends the status, unless that has been done.
func (l *lateStatus) send() {
	if !l.sent {
		l.sent = true
		l.ResponseWriter.WriteHeader(l.status)
	}
}
