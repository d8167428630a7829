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

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// files are the endpoints of versions and their shards.
type files struct {
	catalog   *catalog.Catalog
	swarms    bool   // nodes of a swarm read here
	keep      string // Cache-Control of a shard that is named by its digest
	withdrawn func(ctx context.Context, v shard.Version) bool
}

// binary is the content type of shards.
const binary = "application/octet-stream"

// shard answers with a shard.
func (f *files) shard(w http.ResponseWriter, r *http.Request, t target) error {
	s, err := f.catalog.Shard(t.version, t.number)
	if err != nil {
		return err
	}
	return f.send(w, r, s)
}

// send answers with s, a shard of a version or of a delta, and closes it.
func (f *files) send(w http.ResponseWriter, r *http.Request, s *catalog.Shard) error {
	defer s.Close()
	if err := pin(w, r, s.Digest, f.keep); err != nil {
		return err
	}
	if s.File == nil {
		return f.arrivingShard(w, r, s)
	}
	serve(w, r, binary, s.Digest, s.File)
	return nil
}

// arrivingShard answers with a shard while it arrives.
func (f *files) arrivingShard(w http.ResponseWriter, r *http.Request, s *catalog.Shard) error {
	if f.swarms && r.Header.Get(wire.SwarmHeader) == swarm.AsPeer && !s.Direct {
		return fs.ErrNotExist
	}
	if asker, err := strconv.Atoi(r.Header.Get(wire.TierHeader)); err == nil && asker <= s.Tier {
		return catalog.ErrLater
	}
	patience := wire.ShardWait
	if wait, ok := wire.PreferredWait(r.Header.Values("Prefer")); ok {
		patience = wait
	}
	arrives(w, s.Tier)
	if strings.Contains(r.Header.Get("Range"), ",") {
		// Of several ranges a goroutine of net/http would read, and so flush, while another
		// one writes; and go on after this function has returned. To ignore them is allowed
		// (RFC 9110, section 14.2).
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	late := &lateStatus{ResponseWriter: w}
	if f.swarms && r.Header.Get(wire.SwarmHeader) != "" {
		late.step = swarmStep
	}
	content := &arriving{
		ReadSeeker: io.NewSectionReader(s, 0, s.Size),
		ready:      s.Ready,
		await: func(offset int64) (int64, error) {
			return s.Await(r.Context(), offset, patience)
		},
		flush: late.flush,
	}
	serve(late, r, binary, s.Digest, content)
	if content.err != nil && !late.sent {
		for _, name := range []string{"Content-Range", "ETag", wire.TierHeader} {
			w.Header().Del(name)
		}
		return fmt.Errorf("%w: %w", catalog.ErrLater, content.err)
	}
	// The server breaks off the connection of an answer that is shorter than announced, so
	// that it does not look like a whole one.
	late.send()
	return nil
}

// arrives marks an answer as that of a version which is still arriving, and may yet turn
// out wrong.
func arrives(w http.ResponseWriter, tier int) {
	w.Header().Set(wire.TierHeader, strconv.Itoa(tier))
	w.Header().Set("Cache-Control", noCache)
}

// arriving reads a shard while it arrives.
type arriving struct {
	io.ReadSeeker // the bytes so far

	ready  func(offset int64) int64
	await  func(offset int64) (int64, error)
	flush  func() // sends the bytes that were read
	offset int64
	err    error // why the rest does not come
}

// Seek goes to an offset, without waiting for bytes.
func (a *arriving) Seek(offset int64, whence int) (int64, error) {
	var err error
	a.offset, err = a.ReadSeeker.Seek(offset, whence)
	return a.offset, err
}

// Read reads bytes as soon as there are any.
func (a *arriving) Read(p []byte) (int, error) {
	if a.ready(a.offset) == 0 {
		a.flush()
	}
	var ready int64
	if ready, a.err = a.await(a.offset); a.err != nil {
		return 0, a.err
	}
	n, err := a.ReadSeeker.Read(p[:min(int64(len(p)), ready)])
	a.offset += int64(n)
	return n, err
}

// lateStatus sends a status with the first byte of the answer, so that another one can be
// sent if that byte does not come.
type lateStatus struct {
	http.ResponseWriter

	status int
	sent   bool
	step   int // how much is read at once, in bytes, or 0 for what io.Copy reads
}

// swarmStep in bytes is read at once for a node of a swarm, of which the slots admit few. Each
// step wakes its reader, and a timer where a rate is set.
const swarmStep = mostAtOnce

// ReadFrom sends what src has.
func (l *lateStatus) ReadFrom(src io.Reader) (int64, error) {
	var buf []byte
	if l.step > 0 {
		buf = make([]byte, l.step)
	}
	return io.CopyBuffer(struct{ io.Writer }{l}, src, buf)
}

// WriteHeader keeps the status.
func (l *lateStatus) WriteHeader(status int) { l.status = status }

// Write sends p, and the status before it.
func (l *lateStatus) Write(p []byte) (int, error) {
	l.send()
	return l.ResponseWriter.Write(p)
}

// flush sends the bytes that were written.
func (l *lateStatus) flush() {
	if l.sent {
		_ = http.NewResponseController(l.ResponseWriter).Flush() // the next write fails as well
	}
}

// send sends the status once.
func (l *lateStatus) send() {
	if !l.sent {
		l.sent = true
		l.ResponseWriter.WriteHeader(l.status)
	}
}

// find returns the version of t, or the newest one, whose file name is then said to be the
// answer.
func (f *files) find(w http.ResponseWriter, t target, name string) (*catalog.Version, error) {
	if t.version != 0 {
		return f.catalog.Find(t.version)
	}
	v, err := f.catalog.Latest()
	if err == nil {
		w.Header().Set("Content-Location", "/"+v.Number.String()+"/"+name)
	}
	return v, err
}

// manifest answers with the manifest of a version.
func (f *files) manifest(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := f.find(w, t, shard.ManifestName)
	if errors.Is(err, fs.ErrNotExist) && t.version != 0 && f.withdrawn != nil && f.withdrawn(r.Context(), t.version) {
		err = catalog.ErrWithdrawn
	}
	if err != nil {
		return err
	}
	defer v.Close()
	text, tag, err := v.Text()
	if err != nil {
		return err
	}
	if tier, ok := v.Arriving(); ok {
		arrives(w, tier)
	}
	serve(w, r, "application/json", tag, text)
	return nil
}

// sums answers with the digests of a version's shards, for sha256sum -c.
func (f *files) sums(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := f.catalog.Find(t.version)
	if err != nil {
		return err
	}
	defer v.Close()
	if tier, ok := v.Arriving(); ok {
		arrives(w, tier)
	}
	serveText(w, r, plainText, shard.SHA256SUMS(v.Manifest.Shards))
	return nil
}
