package stage

import (
	"context"
	"sync/atomic"
)

// Count is a stage that counts the payload: the bytes that have reached the sink. The number
// is c.Counter.Count(), for stages inside and outside, also while bytes flow.
//
// It may stand anywhere in the chain. It sees no bytes, so zero-copy survives it.
type Count struct{}

// Wrap puts a counter before the sink of next.
func (Count) Wrap(next Handler) Handler {
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.count()
		return nil, nil
	}).Wrap(next)
}

// count puts a counter before the sink if there is none yet.
func (c *Conn) count() *Counter {
	if c.Counter == nil {
		c.Counter = new(Counter)
		c.Out = NewWriter(c.Out, c.Counter)
	}
	return c.Counter
}

// Counter is a [Gate] that counts the bytes that pass. A counting writer is
// NewWriter(w, counter), and a counting reader NewReader(r, counter). The zero
// value is ready to use; it must not be copied.
type Counter struct{ n atomic.Int64 }

// Count returns the number of bytes so far. It is safe for concurrent use.
func (ct *Counter) Count() int64 { return ct.n.Load() }

// Allow allows everything.
func (*Counter) Allow(max int) (int, error) { return max, nil }

// Passed adds n.
func (ct *Counter) Passed(n int, err error) error {
	if n > 0 {
		ct.n.Add(int64(n))
	}
	return err
}

var _ Gate = (*Counter)(nil)
