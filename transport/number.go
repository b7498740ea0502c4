package transport

import (
	"context"
	"sync/atomic"
)

// Numbers numbers connections. Next must be safe for concurrent use, so that servers can
// share one Numbers.
//
// The accept loop calls Next once for each connection, in order of acceptance, and waits
// for the number. After an error it resets the connection and continues. ctx is that of
// [Server.Serve]: when it is done, Next must return its error.
type Numbers interface {
	Next(ctx context.Context) (uint64, error)
}

// NewCounter returns the Numbers after+1, after+2 and so on. They never fail.
func NewCounter(after uint64) Numbers {
	c := new(counter)
	c.last.Store(after)
	return c
}

type counter struct{ last atomic.Uint64 }

func (c *counter) Next(context.Context) (uint64, error) { return c.last.Add(1), nil }
