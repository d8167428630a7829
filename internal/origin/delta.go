package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/match"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// A Delta is one that has been made for a version that is published.
type Delta struct {
	Line    shard.Delta   // in the manifest of the version
	Elapsed time.Duration // it took
}

// worth is how many times smaller than its version a delta is at least, with its manifest.
const worth = 2

// errWorthless means that a delta is too large to be of use.
var errWorthless = fmt.Errorf("it is larger than 1/%d of the version", worth)

// addDeltas makes deltas of the version in draft, whose manifest is m, from the newest published
// versions, of which it takes most at most, and names them in m. A delta that cannot be made, or is of no
// use, is logged: the version is published without it. The error is the cause of the end of ctx.
func (o *Origin) addDeltas(
	ctx context.Context, draft *store.Draft, m *shard.Manifest, most int,
) (made []Delta, err error) {
	d := differ{origin: o, draft: draft, manifest: *m}
	for _, base := range d.bases(most) {
		begun := time.Now()
		line, err := d.make(ctx, base)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		facts := []any{"version", draft.Version().String(), "base", base.version.String()}
		switch took := time.Since(begun); {
		case errors.Is(err, errWorthless):
			o.logger.Info("delta not published", append(facts, "reason", err.Error(), "dur", took)...)
		case err != nil:
			o.logger.Warn("delta not made", append(facts, "err", err)...)
		default:
			m.Deltas = append(m.Deltas, line)
			made = append(made, Delta{Line: line, Elapsed: took})
			o.logger.Info("delta made",
				append(facts, "bytes", line.Size, "ratio", ratio(m.Size, line.Size), "dur", took)...)
		}
	}
	return made, nil
}

// ratio is how many times smaller a delta is than its version, to a tenth.
func ratio(version, delta int64) float64 {
	return math.Round(10*float64(version)/float64(delta)) / 10
}

// differ makes the deltas of one version.
type differ struct {
	origin   *Origin
	draft    *store.Draft
	manifest shard.Manifest
}

// base is a version from which a delta can be made.
type base struct {
	version  shard.Version
	manifest shard.Manifest
}

// bases returns the newest versions with other content, the newest first, most at most.
func (d differ) bases(most int) (bases []base) {
	entries, err := d.origin.store.Distribution()
	if err != nil || d.manifest.Size == 0 {
		return nil // the publication finds out; or there is nothing to make smaller
	}
	seen := map[shard.Digest]bool{d.manifest.Digest: true}
	for _, e := range slices.Backward(entries) {
		if len(bases) >= most {
			break
		}
		m, err := manifestOf(d.origin.store, e.Version)
		if err != nil || m.Size == 0 || seen[m.Digest] {
			continue // such as one of the Python package
		}
		seen[m.Digest] = true
		bases = append(bases, base{e.Version, m})
	}
	return bases
}

// make makes the delta from one base in the draft, and leaves nothing there after an error.
func (d differ) make(ctx context.Context, from base) (line shard.Delta, err error) {
	old, now := d.origin.store.Stream(from.version, from.manifest), d.draft.Stream(d.manifest)
	defer old.Close()
	defer now.Close()
	copies, err := d.copies(ctx, from, old, now)
	if err != nil {
		return shard.Delta{}, err
	}
	out, err := d.draft.Delta(from.version)
	if err != nil {
		return shard.Delta{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Discard())
		}
	}()
	content, err := d.write(ctx, out, func(ctx context.Context, w io.Writer) error {
		_, err := delta.Encode(ctx, w, old, now, copies)
		return err
	})
	if err != nil {
		return shard.Delta{}, err
	}
	m := shard.DeltaManifest{
		Format: shard.DeltaFormat, BaseDigest: from.manifest.Digest, TargetDigest: d.manifest.Digest,
		Size: content.Size, ShardSize: content.ShardSize, Digest: content.Digest, Shards: content.Shards,
	}
	text, err := m.Encode()
	if err != nil {
		return shard.Delta{}, err
	}
	if m.Size+int64(len(text)) > d.manifest.Size/worth {
		return shard.Delta{}, errWorthless
	}
	return out.EndDelta(m)
}

// copies finds which bytes of the version resemble which of the base: of two trees file by file.
func (d differ) copies(ctx context.Context, from base, old, now delta.Stream) ([]delta.Copy, error) {
	if from.manifest.Files == nil || d.manifest.Files == nil {
		return match.Streams(ctx, old, now)
	}
	before, err := d.files(from.version, from.manifest)
	if err != nil {
		return nil, err
	}
	after, err := d.files(d.draft.Version(), d.manifest)
	if err != nil {
		return nil, err
	}
	return match.Trees(ctx, old, now, before, after)
}

// files returns the files of a tree.
func (d differ) files(v shard.Version, m shard.Manifest) ([]match.File, error) {
	f, err := d.origin.store.Files(v)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := tree.Parse(f, *m.Files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v, err)
	}
	files := make([]match.File, 0, t.Len())
	for f := range t.Files() {
		if !f.Directory {
			files = append(files, match.File{Path: f.Path, Offset: f.Offset, Size: f.Size, Digest: string(f.Digest[:])})
		}
	}
	return files, nil
}

const (
	// A delta of at most smallDelta bytes, which are held in memory, is cut into some deltaShards shards of
	// leastDeltaShard bytes or more: nodes of a swarm are to have some to swap. The shards of a larger one have
	// smallDelta/deltaShards bytes, or more where those of its version by [shard.AutoSize] are more than so many
	// times larger.
	deltaShards     = 32
	smallDelta      = 8 << 20
	leastDeltaShard = 64 << 10

	// deltaStep is what their size is a multiple of.
	deltaStep = 4 << 10
)

// deltaShardSize returns the size of the shards of a delta of size bytes, or more if that is smallDelta, for a
// version of whole bytes: the largest delta that is of use has no more of them than it may have.
func deltaShardSize(size, whole int64) int64 {
	least := max(smallDelta/deltaShards, shard.AutoSize(whole)/deltaShards, whole/worth/shard.MaxShards+1)
	if size < smallDelta {
		least = max(leastDeltaShard, size/deltaShards)
	}
	return (least + deltaStep - 1) / deltaStep * deltaStep
}

// write cuts what encode writes into shards of out, and ends encode once that is too much.
func (d differ) write(
	ctx context.Context, out *store.Draft, encode func(context.Context, io.Writer) error,
) (content shard.Manifest, err error) {
	group, ctx := errgroup.WithContext(ctx)
	r, w := io.Pipe()
	group.Go(func() error {
		err := encode(ctx, &limited{w: w, left: d.manifest.Size / worth})
		_ = w.CloseWithError(err) // as documented, it returns nil
		return err
	})
	group.Go(func() error {
		first := make([]byte, smallDelta)
		n, err := io.ReadFull(r, first)
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			content, err = shard.Cut(ctx, io.MultiReader(bytes.NewReader(first[:n]), r), shard.Plan{
				Size: shard.UnknownSize, ShardSize: deltaShardSize(int64(n), d.manifest.Size), Create: out.Create,
			})
		}
		_ = r.CloseWithError(err) // likewise
		return err
	})
	return content, group.Wait()
}

// limited takes so many bytes, and fails with errWorthless at more.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errWorthless
	}
	return l.w.Write(p)
}

// manifestOf reads the manifest of v.
func manifestOf(st *store.Store, v shard.Version) (shard.Manifest, error) {
	f, err := st.Manifest(v)
	if err != nil {
		return shard.Manifest{}, err
	}
	m, err := shard.ParseManifest(f)
	return m, errors.Join(err, f.Close())
}
