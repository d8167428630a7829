package origin

import (
	"context"
	"io"
)

// inputBuffer in bytes is read from an input at once.
const inputBuffer = 256 << 10

// inputOf returns a reader of input that fails with the cause when ctx ends, also while input has
// nothing to give. A read of input may then go on until it returns. The caller ends ctx.
func inputOf(ctx context.Context, input io.Reader) io.Reader {
	out, in := io.Pipe()
	context.AfterFunc(ctx, func() { _ = in.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(in, struct{ io.Reader }{input}, make([]byte, inputBuffer))
		_ = in.CloseWithError(err) // the end of out, where it is nil
	}()
	return out
}
