package stage

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// StallGate is a [Gate] before a connection's writer that ends it with
// [ErrIdle] when the peer takes not one byte for longer than a limit:
//
//	w := stage.NewWriter(conn, stage.NewStallGate(conn, 10*time.Second))
//
// Only the time of waiting counts: not that between writes. On Linux it is exact
// to a twentieth of the limit for a TCP or Unix stream connection, however much of
// what was written the system still holds back. The deadline is left alone while it is far
// enough away: it is set up to a hundred times within the limit, not for each write. Elsewhere, and over TLS, what a
// connection has taken of a write is only known at its end, so that a peer which
// stops in the midst of one is found out after up to twice the limit.
type StallGate struct {
	conn WriteDeadliner
	watch
	again bool      // the write that comes is the rest of one that waits
	due   time.Time // when the deadline passes; zero before it is set
}

// WriteDeadliner is what has a write deadline: a net.Conn, a [Conn], a [Deadline].
type WriteDeadliner interface {
	SetWriteDeadline(t time.Time) error
}

// NewStallGate returns a gate for writes to conn, whose write deadline becomes
// the gate's own. The limit must be more than 0.
func NewStallGate(conn WriteDeadliner, limit time.Duration) *StallGate {
	var nc any = conn
	switch c := conn.(type) {
	case *Conn:
		nc = c.written()
	case *Deadline:
		nc = c.c.written()
	}
	return newStallGate(conn, nc, limit)
}

// written is what Reply is written to at last, as far as is known.
func (c *Conn) written() any {
	whole := c.entire()
	if _, ok := c.Net.(syscall.Conn); ok && innermost(c.Net) == whole.first {
		return (*socket)(whole)
	}
	return c.Net
}

// newStallGate is NewStallGate for writes to nc.
func newStallGate(conn WriteDeadliner, nc any, limit time.Duration) *StallGate {
	// Only of a connection that is no layer over another, as that of crypto/tls
	// is: a write of such a layer cannot be tried again after its deadline.
	if backlog(nc) < 0 {
		nc = nil
	}
	return &StallGate{conn: conn, watch: watch{nc: nc, limit: limit}}
}

// Allow allows everything; the limit runs from now.
func (g *StallGate) Allow(max int) (int, error) {
	if g.again {
		return max, nil
	}
	next := g.start()
	if !g.due.Before(next) {
		return max, nil
	}
	return max, g.set(next.Add(g.limit / spare))
}

// spare is the part of the limit that a deadline is set later than it need be, so that
// it serves the writes that follow.
const spare = 100

func (g *StallGate) set(t time.Time) error {
	g.due = t
	return g.conn.SetWriteDeadline(t)
}

// stop removes the deadline, if it has been set.
func (g *StallGate) stop() {
	if !g.due.IsZero() {
		g.set(time.Time{})
	}
}

// Passed lets the limit run anew when bytes have passed, and turns an
// os.ErrDeadlineExceeded into [ErrIdle] if none have.
func (g *StallGate) Passed(n int, err error) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	g.again = false
	switch {
	case late && (g.due.IsZero() || time.Now().Before(g.due)):
		return err // another's
	case n > 0 && late:
		return nil // the limit runs anew
	case late:
		next, err := g.look()
		if err != nil {
			return err
		}
		g.again = true
		return g.set(next)
	default:
		return err
	}
}

var _ Gate = (*StallGate)(nil)

// watch finds out whether a peer takes anything while its connection takes no
// more, or is given no more. It looks at the connection's backlog: a write that
// waits is not woken before a good part of that is gone (sk_stream_write_space
// in net/core/stream.c), which may be megabytes, and last longer than the limit.
type watch struct {
	nc    any // a connection; nil: there is nothing to look at
	limit time.Duration
	since time.Time // when something was last seen to be taken
	left  int       // the backlog then; -1 before it was looked at
}

// watches is how often a watch looks within its limit.
const watches = 20

// start lets the limit run from now, and returns when to look.
func (w *watch) start() time.Time {
	w.since, w.left = time.Now(), -1
	if w.nc == nil {
		return w.since.Add(w.limit)
	}
	return w.since.Add(w.limit / watches)
}

// look returns when to look again, or an ErrIdle if the limit has passed.
func (w *watch) look() (time.Time, error) {
	now := time.Now()
	left := backlog(w.nc)
	if left < w.left {
		w.since = now
	}
	w.left = left
	end := w.since.Add(w.limit)
	if !now.Before(end) {
		return now, fmt.Errorf("%w: it took no byte for %v", ErrIdle, w.limit)
	}
	next := now.Add(w.limit / watches)
	if next.After(end) {
		next = end
	}
	return next, nil
}
