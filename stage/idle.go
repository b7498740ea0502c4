package stage

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Idle is a stage that ends a connection with [ErrIdle] when its peer has sent
// nothing for longer than Limit. The time runs from the last byte received, or
// from the moment this stage is entered; one byte restarts it.
//
// A peer that takes not one byte of what is written to c.Reply for longer than Limit is
// as good as silent, and ended with ErrIdle too, also while a layer inside writes on its
// own, as TLS does within a read: exactly as by a [StallGate]. The time that such a write
// takes is none of the peer's silence.
//
// It sees no bytes, so zero-copy survives it.
type Idle struct {
	// Limit is the longest silence. 0 or less means no limit.
	Limit time.Duration
}

// Wrap makes next's reads of c.In end when the peer is silent for too long.
func (s Idle) Wrap(next Handler) Handler {
	if s.Limit <= 0 {
		return next
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		g := &idling{Deadline: Deadline{c: c}}
		g.IdleGate.begin(&g.Deadline, s.Limit)
		c.In = NewReader(c.In, &g.IdleGate)
		c.limitWrites((*idleWriteGate)(g))
		return g.after, nil
	}).Wrap(next)
}

// idling is what Idle has for a connection: for its reads, and for its writes.
type idling struct {
	Deadline
	IdleGate
	sent  int        // bytes, up to roomy
	stall *StallGate // nil before a write may have to wait
	begun time.Time  // when the write that is under way began, if it may
}

func (g *idling) after(err error) error {
	g.c.unlimitWrites((*idleWriteGate)(g))
	if g.stall != nil {
		g.stall.stop()
	}
	return g.IdleGate.after(err)
}

// idleWriteGate ends writes of which the peer takes nothing, and tells the IdleGate what
// they take.
type idleWriteGate idling

// roomy is so much as the system takes of a TCP connection whether the peer does or not:
// the least that it has as a buffer (tcp(7), tcp_wmem). A dialogue says no more than that,
// mostly, and needs no deadline.
const roomy = 4096

func (g *idleWriteGate) Allow(max int) (int, error) {
	c := g.c.entire()
	if g.stall == nil {
		if c.tcp && max <= roomy-g.sent {
			return max, nil
		}
		g.stall = newStallGate(&g.Deadline, (*socket)(c), g.limit)
	}
	max, err := g.stall.Allow(max)
	g.begun = time.Now()
	return max, err
}

func (g *idleWriteGate) Passed(n int, err error) error {
	if g.stall == nil {
		g.sent += n
		return err
	}
	if !g.begun.IsZero() {
		g.wrote.Add(int64(time.Since(g.begun)))
		g.begun = time.Time{}
	}
	return g.stall.Passed(n, err)
}

// IdleGate is the [Gate] that [Idle] puts before a connection's reader:
//
//	r := stage.NewReader(conn, stage.NewIdleGate(conn, 10*time.Second))
//
// It is exact without any work per read but a look at the clock. The
// connection's read deadline is left alone while bytes arrive; when it passes,
// the gate asks how long ago the last byte came, and sets the deadline again
// for what is left of the limit.
type IdleGate struct {
	renewal
	limit time.Duration
	last  time.Time    // when the last byte was read
	wrote atomic.Int64 // nanoseconds that writes have taken since then
}

// ReadDeadliner is what has a read deadline: a net.Conn, a [Deadline].
type ReadDeadliner interface {
	SetReadDeadline(t time.Time) error
}

// NewIdleGate returns a gate for reads from conn, whose read deadline becomes
// the gate's own. The limit, which must be more than 0, runs from now.
func NewIdleGate(conn ReadDeadliner, limit time.Duration) *IdleGate {
	g := new(IdleGate)
	g.begin(conn, limit)
	return g
}

func (g *IdleGate) begin(conn ReadDeadliner, limit time.Duration) {
	g.conn, g.limit, g.last = conn, limit, time.Now()
	g.err = g.set(g.last.Add(limit))
}

// Stop removes the deadline from the connection.
func (g *IdleGate) Stop() { g.stop() }

// Allow allows everything.
func (g *IdleGate) Allow(max int) (int, error) { return max, g.err }

// Passed notes when bytes came, and turns an os.ErrDeadlineExceeded into
// [ErrIdle], or into nil if the limit is not reached.
func (g *IdleGate) Passed(n int, err error) error {
	if n > 0 {
		g.last, g.late = time.Now(), false
		g.wrote.Store(0)
	}
	if err == nil {
		return nil
	}
	now := time.Now()
	if !g.passed(err, now) {
		return err
	}
	over, err := g.renew(now, g.limit-now.Sub(g.last)+time.Duration(g.wrote.Load()))
	if over {
		return fmt.Errorf("%w: no byte for %v", ErrIdle, g.limit)
	}
	return err
}

var _ Gate = (*IdleGate)(nil)
