package stage

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// StallGate is a [Gate] before a connection's writer that ends it with
// [ErrIdle] when the peer takes not one byte for longer than a limit:
//
//	w := stage.NewWriter(conn, stage.NewStallGate(conn, 10*time.Second))
//
// Only the time of waiting counts: not that between writes. On Linux it is exact
// to a twentieth of the limit for a TCP or Unix stream connection, however much of
// what was written the system still holds back. Elsewhere, and over TLS, what a
// connection has taken of a write is only known at its end, so that a peer which
// stops in the midst of one is found out after up to twice the limit.
type StallGate struct {
	conn WriteDeadliner
	watch
	again bool // the write that comes is the rest of one that waits
}

// WriteDeadliner is what has a write deadline: a net.Conn, a [Conn].
type WriteDeadliner interface {
	SetWriteDeadline(t time.Time) error
}

// NewStallGate returns a gate for writes to conn, whose write deadline becomes
// the gate's own. The limit must be more than 0.
func NewStallGate(conn WriteDeadliner, limit time.Duration) *StallGate {
	nc, _ := conn.(net.Conn)
	if c, ok := conn.(*Conn); ok {
		nc = c.Net
	}
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
	return max, g.conn.SetWriteDeadline(g.start())
}

// Passed lets the limit run anew when bytes have passed, and turns an
// os.ErrDeadlineExceeded into [ErrIdle] if none have.
func (g *StallGate) Passed(n int, err error) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	g.again = false
	switch {
	case n > 0 && (err == nil || late):
		return g.conn.SetWriteDeadline(g.start())
	case late:
		next, err := g.look()
		if err != nil {
			return err
		}
		g.again = true
		return g.conn.SetWriteDeadline(next)
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
	nc    net.Conn // nil: there is nothing to look at
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
