package stage

import (
	"context"
	"fmt"
)

// MaxSize is a stage that ends a connection with [ErrTooLarge] when its payload is
// larger than Bytes, as soon as it is: the sink gets exactly Bytes and then no more.
// A payload of exactly Bytes is not too large.
//
// It stands inside of [Frames] to limit each frame, and outside to limit all of a connection's
// together. It sees no bytes, so zero-copy survives it.
type MaxSize struct {
	// Bytes is how large a payload may be. 0 or less means no limit.
	Bytes int64
}

// Wrap puts the limit before the sink of next.
func (s MaxSize) Wrap(next Handler) Handler {
	if s.Bytes <= 0 {
		return next
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.Out = NewWriter(c.Out, &sizeGate{left: s.Bytes, limit: s.Bytes})
		return nil, nil
	}).Wrap(next)
}

// sizeGate lets so many bytes pass.
type sizeGate struct{ left, limit int64 }

func (g *sizeGate) Allow(max int) (int, error) {
	if g.left <= 0 {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, g.limit)
	}
	return int(min(int64(max), g.left)), nil
}

func (g *sizeGate) Passed(n int, err error) error {
	g.left -= int64(n)
	return err
}

var _ Gate = (*sizeGate)(nil)
