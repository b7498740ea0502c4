package transport

import "context"

// Scheduler decides how many connections are served at a time. [Server.Serve] takes a slot before it accepts a connection, so
// that beyond the limit connections wait in the kernel's queue: connected, and
// costing the process nothing. A Scheduler is safe for concurrent use.
type Scheduler interface {
	// Acquire takes a slot. It waits until there is one, or until ctx is
	// done, and then returns ctx's error. Any other error ends the server.
	Acquire(ctx context.Context) error

	// Release frees a slot that was acquired.
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
