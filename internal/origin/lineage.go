package origin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/hfdelta"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// HFDelta is the [Lineage.From] of directories that have their numbers in the metadata of
// model.safetensors.index.json, see package hfdelta.
const HFDelta = "hf-delta"

// Lineage is the place of a version in its run, and short for the labels of package lineage. The zero
// value adds none.
type Lineage struct {
	// Run is the name of the run. Empty means that of the data directory, for a version with a Number.
	Run string

	// Number is that of the version in its run, and After that of the version that it needs. Zero
	// means none.
	Number, After int64

	// From says where in a directory to read Number and After: [HFDelta], or empty for nowhere.
	From string
}

// Check returns an error if l contradicts itself or labels.
func (l Lineage) Check(labels map[string]string) error {
	switch {
	case l.From != "" && l.From != HFDelta:
		return fmt.Errorf("Lineage: %.80q, want %s", l.From, HFDelta)
	case l.Number < 0 || l.Number > lineage.MaxNumber:
		return fmt.Errorf("Number: %d, want up to %d", l.Number, lineage.MaxNumber)
	case l.After < 0 || l.After > lineage.MaxNumber:
		return fmt.Errorf("After: %d, want up to %d", l.After, lineage.MaxNumber)
	case l.After != 0 && l.Number == 0 && labels[lineage.Number] == "" && l.From == "":
		return errors.New("After: it has no effect without a number of the version itself")
	}
	if l.Run != "" {
		if err := policy.CheckRun(l.Run); err != nil {
			return fmt.Errorf("Run: %w", err)
		}
	}
	_, err := l.with(labels)
	return err
}

// with returns labels with those that l is short for. It is an error if they differ.
func (l Lineage) with(labels map[string]string) (map[string]string, error) {
	all := maps.Clone(labels)
	for _, add := range []struct{ option, name, value string }{
		{"Run", lineage.Run, l.Run},
		{"Number", lineage.Number, decimal(l.Number)},
		{"After", lineage.After, decimal(l.After)},
	} {
		if add.value == "" {
			continue
		}
		if other, ok := all[add.name]; ok && other != add.value {
			return nil, fmt.Errorf("%s: %q, and the label %s is %q", add.option, add.value, add.name, other)
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[add.name] = add.value
	}
	return all, nil
}

func decimal(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// join gives src the labels of its place in a run, and returns the version that has that place already,
// or the zero entry. Errors match [policy.ErrLineage] if src does not fit there.
func (o *Origin) join(w *store.Writer, src *source) (there distfile.Entry, err error) {
	if src.labels, err = o.labelsOf(src); err != nil {
		return distfile.Entry{}, err
	}
	if err := lineage.Check(src.labels); err != nil {
		return distfile.Entry{}, fmt.Errorf("%w: %w", policy.ErrLineage, err)
	}
	if err := errors.Join(shard.CheckLabels(src.labels), w.Admit(src.labels)); err != nil {
		return distfile.Entry{}, err
	}
	return w.At(src.labels)
}

// labelsOf returns the labels of src with those of its lineage. A version with a number is of the run of
// the data directory where it names none.
func (o *Origin) labelsOf(src *source) (map[string]string, error) {
	of := src.lineage
	if of.From == HFDelta {
		var err error
		if of, err = readHFDelta(src, of); err != nil {
			return nil, err
		}
	}
	labels, err := of.with(src.labels)
	if _, given := labels[lineage.Run]; err != nil || given || labels[lineage.Number] == "" {
		return labels, err
	}
	settings, err := o.store.Settings()
	if err == nil && settings.Run == "" && of.Number != 0 {
		err = fmt.Errorf("%w: number %d is of no run; give --run, or begin a run of the data directory with "+
			"'shardcast-origin new-run'", policy.ErrLineage, of.Number)
	}
	if err != nil {
		return nil, err
	}
	return Lineage{Run: settings.Run}.with(labels)
}

// again returns the version there, which has the place of src in its run, if that is the same. It reads
// src for that, and writes nothing.
func (o *Origin) again(
	ctx context.Context, src *source, t *tally, there distfile.Entry, record recorder,
) (Published, error) {
	t.begin(there.Version)
	m, err := manifestOf(o.store, there.Version)
	if err != nil {
		return Published{}, err
	}
	digest, err := digestOf(ctx, src, t)
	if err != nil {
		return Published{}, err
	}
	if digest != m.Digest {
		place, _ := lineage.PlaceOf(src.labels)
		return Published{}, fmt.Errorf("%w: %s is %s already, with digest %s, and this one has %s; give it another "+
			"number, or begin a new run", policy.ErrLineage, place, there.Version, m.Digest, digest)
	}
	if record != nil {
		if err := record(there.Version, there.Digest); err != nil {
			return Published{}, err
		}
	}
	o.logger.Info("published already", "version", there.Version.String(), "file", src.path, "digest", digest.String())
	return Published{Version: there.Version, Manifest: m, Again: true}, nil
}

// digestOf reads src, counted by t, to its end, and returns the digest of its stream. It must be the same
// afterwards as when it was opened.
func digestOf(ctx context.Context, src *source, t *tally) (shard.Digest, error) {
	sum := sha256.New()
	buf := make([]byte, inputBuffer)
	for {
		n, err := t.Read(buf)
		sum.Write(buf[:n])
		if ctx.Err() != nil {
			return shard.Digest{}, context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return shard.Digest{}, err
		}
	}
	_, err := src.end()
	return shard.Digest(sum.Sum(nil)), err
}

// readHFDelta returns of with the numbers in the index of the directory src.
func readHFDelta(src *source, of Lineage) (Lineage, error) {
	if src.tree == nil {
		return of, fmt.Errorf("%s is read from a directory, and it is none", HFDelta)
	}
	text, err := src.tree.ReadFile(hfdelta.FileName, hfdelta.MaxSize)
	if err != nil {
		return of, fmt.Errorf("%s: %w", HFDelta, err)
	}
	number, after, err := hfdelta.Parse(text)
	switch {
	case err != nil:
		return of, fmt.Errorf("%s: %s: %w", HFDelta, hfdelta.FileName, err)
	case of.Number != 0 && of.Number != number:
		return of, fmt.Errorf("%w: number %d was given, and %s has version %d", policy.ErrLineage, of.Number,
			hfdelta.FileName, number)
	case of.After != 0 && of.After != after:
		return of, fmt.Errorf("%w: after %d was given, and %s has base_version %d", policy.ErrLineage, of.After,
			hfdelta.FileName, after)
	}
	of.Number, of.After = number, after
	return of, nil
}
