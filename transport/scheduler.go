package transport

import "context"

// Scheduler limits how many connections are served at a time. It must be safe for
// concurrent use, and servers can share one.
//
// [Server.Serve] acquires a slot before it accepts a connection, so connections beyond the
// limit wait in the listen backlog, at no cost to the process. A server that waits for a
// connection holds a slot, too. After [ErrUnfinished], handlers still release slots.
type Scheduler interface {
	// Acquire waits for a slot and takes it. Once ctx is done, it returns ctx's error,
	// even if a slot is free. With an error it takes no slot. An error while ctx is not
	// done ends Serve, as a failed listener does.
	Acquire(ctx context.Context) error

	// Release frees a slot. Serve calls it once for each slot, on any goroutine, even
	// if no connection used the slot or a handler panicked. It must not wait.
	Release()
}

// NewPool returns the Scheduler that serves up to n connections at a time; 0 or less means
// no limit.
func NewPool(n int) Scheduler {
	if n <= 0 {
		return pool(nil)
	}
	return make(pool, n)
}

// Sequential returns the Scheduler that serves one connection at a time, in order of
// arrival: NewPool(1).
func Sequential() Scheduler { return NewPool(1) }

// pool has a value for each slot that is taken. A nil pool has no limit.
type pool chan struct{}

func (p pool) Acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil || p == nil {
		return err
	}
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p pool) Release() {
	if p != nil {
		<-p
	}
}
