//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/delta/match"
	"github.com/shardcast/shardcast/internal/delta/synthetic"
	"github.com/shardcast/shardcast/internal/tree"
	"github.com/shardcast/shardcast/scripts/internal/file"
)

const (
	// weightsAtOnce bounds the time and memory for making weights, in bytes: these come again and again, but
	// each time others of them change.
	weightsAtOnce = 32 << 20

	// inserted is how many bytes are inserted in the middle of random ones: no multiple of anything.
	inserted = 1<<20 + 7

	// runtimeMemory is the limit that broadcast and client set themselves.
	runtimeMemory = "GOMEMLIMIT=44MiB"

	xdelta = "xdelta3 -9"
)

// A change is a base and a target, of which a delta is made.
type change struct {
	name, title  string
	base, target string  // files
	bound        float64 // the least size of a delta in bytes by the entropy, if it is known
}

// deltaPart measures encoding and applying deltas of one core and of two, without digests and HTTP: of weights, of
// which a training step has changed a few, of random bytes with others inserted, and of two releases of a build. Of the
// first of these it also measures publishing and fetching by the real commands.
func (b *bench) deltaPart(ctx context.Context) error {
	for _, w := range []weights{
		{"bf16-1", "bf16", 2, 0.01},
		{"bf16-3", "bf16", 2, 0.03},
		{"fp8-1", "fp8", 1, 0.01},
	} {
		c, err := b.makeWeights(ctx, w)
		if err != nil {
			return err
		}
		err = b.codecTable(ctx, c)
		if err == nil && w.name == "bf16-1" {
			err = b.update(ctx, c)
		}
		if err := errors.Join(err, c.remove()); err != nil {
			return err
		}
	}
	c, err := b.makeInsertion(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(b.codecTable(ctx, c), c.remove()); err != nil {
		return err
	}
	return errors.Join(b.model(ctx), b.build(ctx))
}

// remove removes the files.
func (c change) remove() error {
	err := errors.Join(os.Remove(c.base), os.Remove(c.target))
	for _, name := range []string{c.base, c.target} {
		_ = os.Remove(name + listOf) // of directories alone
	}
	return err
}

// weights are numbers of width bytes, of which a fraction changes.
type weights struct {
	name, kind string
	width      int
	changed    float64
}

// makeWeights makes weights, and what a step of Adam makes of them.
func (b *bench) makeWeights(ctx context.Context, w weights) (c change, err error) {
	size := int64(b.flags.size) / int64(w.width) * int64(w.width)
	bits := synthetic.Bound(w.changed) // for each weight
	c = b.changeOf(w.name)
	c.bound = bits / 8 * float64(size) / float64(w.width)
	c.title = fmt.Sprintf("%s of %s weights, %.0f %% changed; "+
		"by the entropy of %.4f bits a weight at most %.0f times smaller",
		b.flags.size.String(), w.kind, 100*w.changed, bits, float64(size)/c.bound)
	base, err := os.Create(c.base)
	if err != nil {
		return c, err
	}
	target, err := os.Create(c.target)
	if err != nil {
		return c, errors.Join(err, base.Close())
	}
	generate := synthetic.BF16
	if w.width == 1 {
		generate = synthetic.FP8
	}
	old := generate(b.flags.seed, int(min(size, weightsAtOnce)))
	for seed := b.flags.seed << 32; size > 0 && err == nil && ctx.Err() == nil; seed++ {
		old = old[:min(size, int64(len(old)))]
		size -= int64(len(old))
		_, baseErr := base.Write(old)
		_, targetErr := target.Write(synthetic.Step(seed, old, w.width, w.changed))
		err = errors.Join(baseErr, targetErr)
	}
	return c, errors.Join(err, context.Cause(ctx), base.Close(), target.Close())
}

// changeOf names the files of a change.
func (b *bench) changeOf(name string) change {
	return change{
		name: "delta-" + name, base: filepath.Join(b.dir, name+".base"), target: filepath.Join(b.dir, name+".target"),
	}
}

// makeInsertion makes random bytes, and the same with others in the middle.
func (b *bench) makeInsertion(ctx context.Context) (c change, err error) {
	c = b.changeOf("insertion")
	c.title = fmt.Sprintf("%s of random bytes, %d others inserted in the middle", b.flags.size.String(), inserted)
	c.bound = inserted
	if _, err = file.Random(ctx, c.base, b.flags.size, b.flags.seed); err != nil {
		return c, err
	}
	base, err := os.Open(c.base)
	if err != nil {
		return c, err
	}
	defer base.Close()
	target, err := os.Create(c.target)
	if err != nil {
		return c, err
	}
	middle := int64(b.flags.size) / 2
	_, err = io.Copy(target, io.MultiReader(
		io.NewSectionReader(base, 0, middle),
		io.LimitReader(randomOf(b.flags.seed, inserted), inserted),
		io.NewSectionReader(base, middle, int64(b.flags.size)-middle),
	))
	return c, errors.Join(err, target.Close())
}

// codecTable measures encoding and applying, and first that the target of the delta is right.
func (b *bench) codecTable(ctx context.Context, c change) error {
	size, err := sizeOf(c.target)
	if err != nil {
		return err
	}
	made, again := c.target+".delta", c.target+".again"
	for _, args := range [][]string{{encoding, c.base, c.target, made}, {applying, c.base, again, made}} {
		if _, _, err := b.codec(ctx, size, 2, args...); err != nil {
			return err
		}
	}
	if err := same(c.target, again); err != nil {
		return err
	}
	t := &Table{Name: c.name, Title: c.title, Key: CPURate}
	var tools []tool
	for _, cores := range []int{1, 2} {
		run := func(ctx context.Context, _ string) (Sample, error) {
			s, _, err := b.codec(ctx, size, cores, applying, c.base, unwritten, made)
			return s, err
		}
		tools = append(tools, b.encoder(c, size, cores), tool{onCores(applying, cores), Ours, nil, run})
	}
	return errors.Join(b.table(ctx, t, tools), os.Remove(made), os.Remove(again))
}

// onCores is the name of a row.
func onCores(work string, cores int) string { return fmt.Sprintf("%s, GOMAXPROCS %d", work, cores) }

// codec runs this program as [codec] on so many cores.
func (b *bench) codec(ctx context.Context, size int64, cores int, args ...string) (Sample, string, error) {
	env := []string{fmt.Sprintf("GOMAXPROCS=%d", cores), runtimeMemory}
	return measured(ctx, size, b.dir, env, b.self, append([]string{codecCommand}, args...)...)
}

// encoder is a row that encodes a delta.
func (b *bench) encoder(c change, size int64, cores int) tool {
	return tool{onCores(encoding, cores), Ours, nil, func(ctx context.Context, dir string) (Sample, error) {
		out := filepath.Join(dir, "delta")
		s, _, err := b.codec(ctx, size, cores, encoding, c.base, c.target, out)
		if err != nil {
			return nil, err
		}
		return c.sized(s, size, out)
	}}
}

// sized adds how much smaller than the target a delta is.
func (c change) sized(s Sample, target int64, name string) (Sample, error) {
	size, err := sizeOf(name)
	s[Smaller] = float64(target) / float64(size)
	if c.bound > 0 {
		s[OfBound] = float64(size) / c.bound
	}
	return s, err
}

// sizeOf is that of a file.
func sizeOf(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// same returns an error unless files are equal.
func same(a, b string) error {
	one, err := file.Digest(a)
	if err != nil {
		return err
	}
	if other, err := file.Digest(b); err != nil || one != other {
		return errors.Join(err, fmt.Errorf("%s and %s differ", a, b))
	}
	return nil
}

// build measures deltas of the files of two releases, beside xdelta3.
func (b *bench) build(ctx context.Context) error {
	if b.flags.old == "" || b.flags.now == "" {
		b.leaveOut("delta-build: it needs -old and -new, directories of two releases, " +
			"such as two of a Debian package after dpkg-deb -x")
		return nil
	}
	c := b.changeOf("build")
	c.title = fmt.Sprintf("from %s to %s", filepath.Base(b.flags.old), filepath.Base(b.flags.now))
	if err := errors.Join(streamTo(b.flags.old, c.base), streamTo(b.flags.now, c.target)); err != nil {
		return err
	}
	size, err := sizeOf(c.target)
	if err != nil {
		return err
	}
	t := &Table{Name: c.name, Title: c.title, Key: CPURate}
	other := b.xdelta(c, size)
	err = b.table(ctx, t, []tool{b.encoder(c, size, 1), b.encoder(c, size, 2), other})
	return errors.Join(err, c.remove())
}

// xdelta is a row of xdelta3, with a window as large as the base.
func (b *bench) xdelta(c change, size int64) tool {
	return tool{xdelta, Other, []string{"xdelta3"}, func(ctx context.Context, dir string) (Sample, error) {
		base, err := sizeOf(c.base)
		if err != nil {
			return nil, err
		}
		out := filepath.Join(dir, "delta")
		s, _, err := measured(ctx, size, dir, nil, "xdelta3", "-9", "-e", "-B", fmt.Sprint(max(base, 1<<20)),
			"-s", c.base, c.target, out)
		if err != nil {
			return nil, err
		}
		return c.sized(s, size, out)
	}}
}

// streamTo writes the stream of a directory into a file, and the list of its files beside it.
func streamTo(dir, name string) (err error) {
	source, err := tree.Open(dir, tree.Options{FollowLinks: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, source)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	made, err := source.Tree()
	if err != nil {
		return err
	}
	var files []match.File
	for f := range made.Files() {
		if !f.Directory {
			files = append(files, match.File{
				Path: f.Path, Offset: f.Offset, Size: f.Size, Digest: hex.EncodeToString(f.Digest[:]),
			})
		}
	}
	text, err := json.Marshal(files)
	if err != nil {
		return err
	}
	return os.WriteFile(name+listOf, text, 0o600)
}
