package offers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
)

// A DeltaWant is a delta of a version as one fetch wants it. A server that lacks it, or has another one, is not
// asked for it again, and may still send the version. A peer whose bytes are wrong may not.
type DeltaWant struct {
	want *Want
	line shard.Delta

	mu      sync.Mutex // guards refused
	refused map[*remote.Server]error
}

// Delta returns a DeltaWant of the delta that line is about, of the version that w wants.
func (w *Want) Delta(line shard.Delta) *DeltaWant {
	return &DeltaWant{want: w, line: line, refused: make(map[*remote.Server]error)}
}

// Job is that of a [Want].
func (w *DeltaWant) Job(do func(*remote.Server) error) roster.Job {
	j := w.want.Job(do)
	j.May = func(s *remote.Server) bool {
		return w.Refused(s) == nil && w.want.May(s)
	}
	j.Refuse, j.Failed = w.Refuse, w.failed
	return j
}

// Refuse has s not asked again for the delta because of err, nor a peer for its version.
func (w *DeltaWant) Refuse(ctx context.Context, s *remote.Server, err error) {
	if !w.want.offers.opts.Roster.Has(s) {
		w.want.Refuse(ctx, s, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused[s] = err
}

// Refused returns why s is not asked again for the delta, or nil.
func (w *DeltaWant) Refused(s *remote.Server) error {
	w.mu.Lock()
	err := w.refused[s]
	w.mu.Unlock()
	return cmp.Or(err, w.want.Refused(s))
}

// failed returns the error for a delta that no server gives.
func (w *DeltaWant) failed(errs []error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.refused {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return w.want.Failed(nil)
	}
	return failures(errs)
}

// Manifest returns the manifest of the delta, as it is written, too, and the number of servers on its way here. The
// version has the digest target. The error matches [fs.ErrNotExist] if the servers have none.
func (w *DeltaWant) Manifest(ctx context.Context, target shard.Digest) (
	m shard.DeltaManifest, text []byte, tier int, err error,
) {
	err = w.want.offers.opts.Roster.Try(ctx, w.Job(func(s *remote.Server) (err error) {
		m, text, tier, err = w.manifestAt(ctx, s, target)
		return err
	}))
	return m, text, tier, err
}

func (w *DeltaWant) manifestAt(ctx context.Context, s *remote.Server, target shard.Digest) (
	m shard.DeltaManifest, text []byte, tier int, err error,
) {
	body, err := w.want.offers.opts.Remote.Get(ctx, s, remote.Request{Path: w.path(shard.ManifestName)})
	if errors.Is(err, fs.ErrNotExist) {
		err = &roster.Setback{Err: err, What: roster.Never}
	}
	if err != nil {
		return m, nil, 0, err
	}
	defer body.Close()
	var read bytes.Buffer
	m, err = shard.ParseDeltaManifest(io.TeeReader(body, &read))
	if err == nil { // white space may follow
		_, err = io.Copy(&read, io.LimitReader(body, mostAfter))
	}
	switch {
	case err != nil && !errors.Is(err, shard.ErrManifest):
		return m, nil, 0, fmt.Errorf("%s: %w", s.Name, err)
	case err == nil && sha256.Sum256(read.Bytes()) != w.line.Manifest:
		err = fmt.Errorf("the delta's manifest: %w", shard.ErrDigest)
	case err == nil && m.Format != shard.DeltaFormat:
		err = fmt.Errorf("the delta has the format %q, which a later release knows", m.Format)
	case err == nil && (m.BaseDigest != w.line.BaseDigest || m.TargetDigest != target || m.Size != w.line.Size):
		err = errors.New("the delta is of other versions than the manifest says")
	}
	if err != nil {
		return m, nil, 0, roster.Wrong(fmt.Errorf("%s: %w", s.Name, err))
	}
	return m, read.Bytes(), tierOf(body) + 1, nil
}

// Get requests shard number of the delta from s. The request r has no path.
func (w *DeltaWant) Get(ctx context.Context, s *remote.Server, number int, r remote.Request) (*remote.Body, error) {
	r.Path = w.path(shard.FileName(number))
	return w.want.offers.opts.Remote.Get(ctx, s, r)
}

func (w *DeltaWant) path(name string) []string {
	return []string{w.want.Entry.Version.String(), shard.DeltaName(w.line.Base), name}
}
