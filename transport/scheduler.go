package transport

import "context"

// Scheduler decides how many connections are served at a time. [Server.Serve] takes a
// slot before it accepts a connection, so that beyond the limit connections wait in the
// kernel's queue: connected, and costing the process nothing. So a server that waits for
// a connection holds a slot, too, and of servers that share a Scheduler each takes
// one.
//
// A Scheduler is safe for concurrent use. Acquire is called by the accept loop
// of each server, Release by whatever goroutine has ended a connection. It outlives
// its servers: if a Serve has ended with [ErrUnfinished], slots are released after
// that.
type Scheduler interface {
	// Acquire takes a slot. It waits until there is one, or until ctx is
	// done, and then returns ctx's error, also if there is a slot. With an error none
	// is taken; one while ctx is not done ends the server, as if its listener had
	// failed.
	Acquire(ctx context.Context) error

	// Release frees a slot that was acquired. It is called once for each, also if
	// there was no connection for it or its handler has panicked, and must not wait.
	Release()
}

// Pool is the [Scheduler] that serves up to a number of connections at a time.
type Pool struct {
	slots chan struct{} // nil: no limit
}

// NewPool returns a Pool of n slots; 0 or less means no limit.
func NewPool(n int) *Pool {
	p := new(Pool)
	if n > 0 {
		p.slots = make(chan struct{}, n)
	}
	return p
}

// Sequential returns the Scheduler that serves one connection at a time, in
// order of arrival: a [Pool] of one slot.
func Sequential() *Pool { return NewPool(1) }

// Acquire takes a slot.
func (p *Pool) Acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil || p.slots == nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release frees a slot.
func (p *Pool) Release() {
	if p.slots != nil {
		<-p.slots
	}
}

var _ Scheduler = (*Pool)(nil)
