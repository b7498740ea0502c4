package stage

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// StallGate is a [Gate] before a connection's writer that ends it with
// [ErrIdle] when the peer takes not one byte for longer than a limit:
//
//	w := stage.NewWriter(conn, stage.NewStallGate(conn, 10*time.Second))
//
// Only the time of waiting counts: not that between writes. It is exact where
// [Copy] writes to a TCP or Unix stream connection on Linux; elsewhere what a
// connection has taken of a write is only known at its end, so that a peer which
// stops in the midst of one is found out after up to twice the limit.
type StallGate struct {
	conn  WriteDeadliner
	limit time.Duration
}

// WriteDeadliner is what has a write deadline: a net.Conn, a [Conn].
type WriteDeadliner interface {
	SetWriteDeadline(t time.Time) error
}

// NewStallGate returns a gate for writes to conn, whose write deadline becomes
// the gate's own. The limit must be more than 0.
func NewStallGate(conn WriteDeadliner, limit time.Duration) *StallGate {
	return &StallGate{conn, limit}
}

// Allow allows everything; the limit runs from now.
func (g *StallGate) Allow(max int) (int, error) {
	return max, g.conn.SetWriteDeadline(time.Now().Add(g.limit))
}

// Passed lets the limit run anew when bytes have passed, and turns an
// os.ErrDeadlineExceeded into [ErrIdle] if none have.
func (g *StallGate) Passed(n int, err error) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case n > 0 && (err == nil || late):
		return g.conn.SetWriteDeadline(time.Now().Add(g.limit))
	case late:
		return fmt.Errorf("%w: it took no byte for %v", ErrIdle, g.limit)
	default:
		return err
	}
}

var _ Gate = (*StallGate)(nil)
