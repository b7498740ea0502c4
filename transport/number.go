package transport

import (
	"context"
	"sync/atomic"
)

// Numbers is where the numbers of connections come from. It is asked once for
// each connection, in the accept loop and so in order of acceptance; the loop
// waits for the answer. After an error the connection is reset, not served, and
// the loop goes on. ctx is that of [Server.Serve]: who waits for a number ends with its
// error. It is safe for concurrent use, so that servers can share one.
type Numbers interface {
	Next(ctx context.Context) (uint64, error)
}

// Counter is the [Numbers] 1, 2, 3 and so on. The zero value is ready to use;
// it must not be copied.
type Counter struct{ last atomic.Uint64 }

// NewCounter returns the Numbers after+1, after+2 and so on, for a server that goes
// on where an earlier one has stopped.
func NewCounter(after uint64) *Counter {
	c := new(Counter)
	c.last.Store(after)
	return c
}

// Next returns the next number. It never fails.
func (c *Counter) Next(context.Context) (uint64, error) { return c.last.Add(1), nil }

var _ Numbers = (*Counter)(nil)
