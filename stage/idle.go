package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Idle is a stage that ends a connection with [ErrIdle] when its peer has sent
// nothing for longer than Limit. The time runs from the last byte received, or
// from the moment this stage is entered; one byte restarts it.
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
		gate := NewIdleGate(c.NewDeadline(), s.Limit)
		c.In = NewReader(c.In, gate)
		return gate.after, nil
	}).Wrap(next)
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
	conn  ReadDeadliner
	limit time.Duration
	last  time.Time // when the last byte was read
	due   time.Time // when the deadline passes
	late  bool      // it has passed, and one more look is under way
	err   error     // from setting the deadline
}

// ReadDeadliner is what has a read deadline: a net.Conn, a [Deadline].
type ReadDeadliner interface {
	SetReadDeadline(t time.Time) error
}

// NewIdleGate returns a gate for reads from conn, whose read deadline becomes
// the gate's own. The limit, which must be more than 0, runs from now.
func NewIdleGate(conn ReadDeadliner, limit time.Duration) *IdleGate {
	now := time.Now()
	g := &IdleGate{conn: conn, limit: limit, last: now}
	g.err = g.set(now.Add(limit))
	return g
}

func (g *IdleGate) set(t time.Time) error {
	g.due = t
	return g.conn.SetReadDeadline(t)
}

// Stop removes the deadline from the connection.
func (g *IdleGate) Stop() { g.conn.SetReadDeadline(time.Time{}) }

// after stops the gate of a connection that has ended.
func (g *IdleGate) after(err error) error {
	g.Stop()
	return err
}

// Allow allows everything.
func (g *IdleGate) Allow(max int) (int, error) { return max, g.err }

// secondLook is how long a reader waits once more when its deadline passed
// while it was not waiting: a sink that stalls must not make a peer look silent
// whose bytes have long arrived.
const secondLook = 10 * time.Millisecond

// Passed notes when bytes came, and turns an os.ErrDeadlineExceeded into
// [ErrIdle], or into nil if the limit is not reached.
func (g *IdleGate) Passed(n int, err error) error {
	if n > 0 {
		g.last, g.late = time.Now(), false
	}
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	now := time.Now()
	if now.Before(g.due) {
		return err // it was another's
	}
	rest := g.limit - now.Sub(g.last)
	if rest <= 0 {
		if g.late {
			return fmt.Errorf("%w: no byte for %v", ErrIdle, g.limit)
		}
		g.late, rest = true, secondLook
	}
	return g.set(now.Add(rest))
}

var _ Gate = (*IdleGate)(nil)
