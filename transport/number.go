package transport

import (
	"context"
	"sync/atomic"
)

// Numbers is where the numbers of connections come from. It is asked once for
// each connection, in the accept loop and so in order of acceptance; the loop
// waits for the answer. After an error the connection is reset, not served, and
// the loop goes on. It is safe for concurrent use, so that servers can share
// one.
type Numbers interface {
	Next(ctx context.Context) (uint64, error)
}

// Counter is the [Numbers] 1, 2, 3 and so on. The zero value is ready to use;
// it must not be copied.
type Counter struct{ last atomic.Uint64 }

// Next returns the next number. It never fails.
func (c *Counter) Next(context.Context) (uint64, error) { return c.last.Add(1), nil }

var _ Numbers = (*Counter)(nil)
