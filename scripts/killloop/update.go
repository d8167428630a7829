package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/delta/synthetic"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// changed is the fraction of the numbers of two bytes in which a version differs from the one before.
	changed = 0.01

	// sentOfDelta is how much may be sent to a killed follower, in deltas: what a proxy spoils is sent again, but not
	// what had come. Beyond that there is what onTheWay bounds in bytes, which a kill loses.
	sentOfDelta = 1.5
	onTheWay    = 1 << 20

	// smaller is how many times smaller the file of these versions is, since all of them are in the origin.
	smaller = 4

	// changedAtOnce bounds the memory for making a version, in bytes.
	changedAtOnce = 16 << 20
)

// updating is the role of a follower that gets each version by a delta.
type updating struct {
	*loop

	name   string // of the file of the newest version
	seed   uint64
	number int
	dir    string // of the follower
}

// followUpdates makes rounds with a follower, each of which has a new version.
func (l *loop) followUpdates(ctx context.Context, seed uint64) (err error) {
	l.size /= smaller
	u := &updating{loop: l, name: l.path("update.bin"), seed: seed, number: 2, dir: l.path("follower")}
	if _, err = file.Random(ctx, u.name, flags.Bytes(l.size), seed); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{u.publish, u.catchUp, u.next, u.catchUp} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	// The deltas to come are about as large, and the kill comes at any byte of them.
	if l.reach, err = u.deltaSize(); err != nil {
		return err
	}
	l.most = (sentOfDelta*float64(l.reach) + onTheWay) / float64(l.size)
	return l.rounds(ctx, "follower", u.round)
}

// follow starts the follower.
func (u *updating) follow(ctx context.Context) (*process.Process, error) {
	return u.start(ctx, "shardcast-client", append([]string{"follow"}, append(u.fetching("--servers"),
		"--output-dir", u.dir, "--output-template", "v{n}.bin", "--progress", "none")...)...)
}

// catchUp runs the follower until it has the newest version.
func (u *updating) catchUp(ctx context.Context) error {
	p, err := u.follow(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	return u.delivered(p)
}

// out is where the follower has the newest version.
func (u *updating) out() string { return filepath.Join(u.dir, fmt.Sprintf("v%d.bin", u.number)) }

// delivered waits until p has printed the path of the newest version, and checks the file.
func (u *updating) delivered(p *process.Process) error {
	if _, err := p.Await(fmt.Sprintf(`(?m)^\S*v%d\.bin$`, u.number)); err != nil {
		return err
	}
	return u.check(u.out())
}

// publish publishes the file as the next version, with a delta from the one before.
func (u *updating) publish(ctx context.Context) (err error) {
	if u.digest, err = file.Digest(u.name); err != nil {
		return err
	}
	u.number++
	p, err := u.start(ctx, "shardcast-origin", "broadcast", u.name,
		"--data-dir", u.path("origin"), "--shard-size", u.shardSize(), "--max-versions", "3", "--delta")
	if err != nil {
		return err
	}
	defer p.Kill()
	_, err = p.Wait()
	return err
}

// deltaSize is that of the delta of the newest version.
func (u *updating) deltaSize() (size int64, err error) {
	names, err := filepath.Glob(u.path(filepath.Join("origin", fmt.Sprintf("v%d", u.number), "from_v*", "shard_*.bin")))
	if err == nil && names == nil {
		err = errors.New("there is no delta")
	}
	for _, name := range names {
		info, statErr := os.Stat(name)
		if statErr != nil {
			return 0, errors.Join(err, statErr)
		}
		size += info.Size()
	}
	return size, err
}

// change changes some numbers of the file.
func (u *updating) change() (err error) {
	f, err := os.OpenFile(u.name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, changedAtOnce)
	for offset := int64(0); ; {
		n, err := f.ReadAt(buf, offset)
		u.seed++
		if _, err := f.WriteAt(synthetic.Step(u.seed, buf[:n], 2, changed), offset); err != nil {
			return err
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// next makes the next version of the file, and publishes it.
func (u *updating) next(ctx context.Context) error {
	if err := u.change(); err != nil {
		return err
	}
	return u.publish(ctx)
}

// round publishes a version, and kills the follower while its delta arrives.
func (u *updating) round(ctx context.Context, m moment) error {
	if err := u.next(ctx); err != nil {
		return err
	}
	p, err := u.follow(ctx)
	if err != nil {
		return err
	}
	early := u.killAt(p, m, filepath.Base(u.out()+"\n"))
	if early != nil && !errors.Is(early, errEarly) {
		return early
	}
	// The kill may have come between the name and the line.
	if _, err := os.Stat(u.out()); err == nil {
		if err := u.check(u.out()); err != nil {
			return err
		}
		early = errEarly
	}
	if early != nil {
		return early
	}
	return u.catchUp(ctx)
}
