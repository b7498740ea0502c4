package stage

import (
	"context"
	"fmt"
)

// MaxSize is a stage that ends a connection with [ErrTooLarge] as soon as its payload is larger
// than Bytes: the sink gets exactly Bytes and no more. A payload of exactly Bytes is not too
// large.
//
// Inside of a stage that cuts a stream into frames it limits each frame, outside all of them
// together. It sees no bytes, so zero-copy survives it.
type MaxSize struct {
	// Bytes is the largest payload. 0 or less means no limit.
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

// sizeGate lets left more bytes pass.
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
