//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

// Fields of ONNX, whose files are messages of Protocol Buffers: the ways to tensors, which are initializers of a graph
// or values of its nodes, and those of a tensor.
const (
	graphOfModel       = 7
	initializerOfGraph = 5
	nodeOfGraph        = 1
	attributeOfNode    = 5
	valueOfAttribute   = 5
	typeOfTensor       = 2
	bytesOfTensor      = 9

	float32s = 1 // a type
)

// model measures deltas of the weights of a real model in bf16 after a step of training.
func (b *bench) model(ctx context.Context) error {
	const changed = 0.01
	if b.flags.model == "" {
		b.leaveOut("delta-model: it needs -model, an ONNX file of float32 weights")
		return nil
	}
	file, err := os.ReadFile(b.flags.model)
	if err != nil {
		return err
	}
	old, err := bf16Of(file)
	if err == nil && len(old) == 0 {
		err = errors.New("it has no float32 weights")
	}
	if err != nil {
		return fmt.Errorf("read the model %s: %w", b.flags.model, err)
	}
	c := b.changeOf("model")
	bits := synthetic.Bound(changed)
	c.bound = bits / 16 * float64(len(old))
	c.title = fmt.Sprintf("%d bytes of bf16, the weights of %s, %.0f %% changed by a step of training",
		len(old), filepath.Base(b.flags.model), 100*changed)
	now := synthetic.Step(b.flags.seed, old, 2, changed)
	if err := errors.Join(os.WriteFile(c.base, old, 0o600), os.WriteFile(c.target, now, 0o600)); err != nil {
		return err
	}
	return errors.Join(b.codecTable(ctx, c), c.remove())
}

// bf16Of returns the float32 weights of an ONNX file, cut to bfloat16, little-endian.
func bf16Of(file []byte) (weights []byte, err error) {
	for _, way := range [][]uint64{
		{graphOfModel, initializerOfGraph},
		{graphOfModel, nodeOfGraph, attributeOfNode, valueOfAttribute},
	} {
		err := below(file, way, func(tensor []byte) error {
			var kind uint64
			var raw []byte
			err := fields(tensor, func(number uint64, bytes []byte, value uint64) error {
				switch number {
				case typeOfTensor:
					kind = value
				case bytesOfTensor:
					raw = bytes
				}
				return nil
			})
			for ; kind == float32s && len(raw) >= 4; raw = raw[4:] {
				weights = append(weights, raw[2], raw[3])
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return weights, nil
}

// below calls each with the messages that a way of fields leads to.
func below(message []byte, way []uint64, each func(message []byte) error) error {
	if len(way) == 0 {
		return each(message)
	}
	return fields(message, func(number uint64, bytes []byte, _ uint64) error {
		if number != way[0] {
			return nil
		}
		return below(bytes, way[1:], each)
	})
}

var errMessage = errors.New("not a message of Protocol Buffers")

// fields calls each with the fields of a message: those of bytes, and numbers of variable size.
func fields(message []byte, each func(number uint64, bytes []byte, value uint64) error) error {
	next := func() (value uint64, err error) {
		value, n := binary.Uvarint(message)
		if n <= 0 {
			return 0, errMessage
		}
		message = message[n:]
		return value, nil
	}
	for len(message) > 0 {
		key, err := next()
		if err != nil {
			return err
		}
		var bytes []byte
		var value uint64
		size := map[uint64]uint64{1: 8, 5: 4}[key&7] // numbers of fixed size
		if kind := key & 7; kind == 0 || kind == 2 {
			if value, err = next(); err != nil {
				return err
			}
			if kind == 2 {
				size = value
			}
		} else if size == 0 {
			return errMessage
		}
		if size > uint64(len(message)) {
			return errMessage
		}
		bytes, message = message[:size], message[size:]
		if err := each(key>>3, bytes, value); err != nil {
			return err
		}
	}
	return nil
}
