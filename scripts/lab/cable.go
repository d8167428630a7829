package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// A path is what the way between two nodes has beside its rates.
type path struct {
	trip time.Duration // of a packet and its answer between two nodes
	loss float64       // share of the packets to a node that are lost
}

// isLong reports whether links have to be cables of our own, for lack of netem.
func (p path) isLong() bool { return p.trip > 0 || p.loss > 0 }

// maxFrame in bytes is above that of an Ethernet frame of 1,500 bytes.
const maxFrame = 2048

// A lane is one direction of a cable: a queue that a rate empties, a loss, a delay.
type lane struct {
	rate  rate
	delay time.Duration
	loss  float64
	draw  *rand.Rand

	free time.Time // when all that has been admitted has passed
}

// admit returns when a frame that comes now arrives, and whether it does: the queue holds what
// passes in [latency], as that of a shaped link does.
func (l *lane) admit(now time.Time, bytes int) (arrives time.Time, ok bool) {
	if l.free.Before(now) {
		l.free = now
	}
	passed := l.free.Add(time.Duration(float64(bytes) / l.rate.bytesPerSecond() * float64(time.Second)))
	if passed.Sub(now) > latency {
		return time.Time{}, false
	}
	l.free = passed
	if l.loss > 0 && l.draw.Float64() < l.loss {
		return time.Time{}, false
	}
	return passed.Add(l.delay), true
}

// A frame is one on its way.
type frame struct {
	arrives time.Time
	bytes   []byte
}

// carry carries frames from one end to the other until an end is closed.
func (l *lane) carry(from io.Reader, to io.Writer) error {
	onTheWay := make(chan frame, 1<<16)
	var group sync.WaitGroup
	group.Go(func() {
		for f := range onTheWay {
			time.Sleep(time.Until(f.arrives))
			_, _ = to.Write(f.bytes) // the end may be closed
		}
	})
	defer group.Wait()
	defer close(onTheWay)
	buf := make([]byte, maxFrame)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if arrives, ok := l.admit(time.Now(), n); ok {
			onTheWay <- frame{arrives, append([]byte(nil), buf[:n]...)}
		}
	}
}

// A cable joins two network devices that are files of ours.
type cable struct {
	near, far *os.File
	carrying  sync.WaitGroup
}

// newCable carries frames between a node's device, near, and the bridge's.
func newCable(near, far *os.File, s spec, p path, seed uint64) *cable {
	c := &cable{near: near, far: far}
	up := &lane{rate: s.up, delay: p.trip / 4}
	down := &lane{rate: s.down, delay: p.trip / 4, loss: p.loss, draw: rand.New(rand.NewPCG(seed, 0))}
	c.carrying.Go(func() { _ = up.carry(near, far) })
	c.carrying.Go(func() { _ = down.carry(far, near) })
	return c
}

// close ends the cable.
func (c *cable) close() error {
	err := errors.Join(c.near.Close(), c.far.Close())
	c.carrying.Wait()
	return err
}
