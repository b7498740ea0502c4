package stage

import (
	"context"
	"fmt"
	"time"

	"github.com/accio-go/accio/stage/internal/socket"
)

// Idle is a stage that ends a connection with [ErrIdle] when its client has sent nothing
// for longer than Limit. The time runs from the last byte received, or from the moment this
// stage is entered; each byte restarts it.
//
// A client that takes not one byte of a write to c.Reply for longer than Limit is idle, too.
// On Linux, Idle detects that within a twentieth of the limit, even while the system buffers
// megabytes. Elsewhere it may take up to twice the limit. The time of a write does not count
// as silence.
//
// Idle sees no bytes, so zero-copy survives it.
type Idle struct {
	// Limit is the longest silence. 0 or less means no limit.
	Limit time.Duration
}

// Wrap makes next's reads of c.In end when the client is silent for too long.
func (s Idle) Wrap(next Handler) Handler {
	if s.Limit <= 0 {
		return next
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		g := newIdleGate(c, s.Limit)
		c.In = NewReader(c.In, g)
		return g.end, nil
	}).Wrap(next)
}

// idleGate notes when bytes arrive. It moves its deadline only when that has passed.
type idleGate struct {
	socket    *socket.Socket
	limit     time.Duration
	reads     Deadline
	writes    Deadline
	stall     socket.Stall  // of writes
	due       time.Time     // of reads
	last      time.Time     // when the last byte arrived
	writeTime time.Duration // of the socket then
}

func newIdleGate(c *Conn, limit time.Duration) *idleGate {
	g := &idleGate{socket: c.socket, limit: limit, stall: *c.socket.NewStall(limit), last: time.Now(), writeTime: c.socket.WriteTime()}
	g.reads, g.writes = c.NewDeadline(g.expired), c.NewDeadline(g.stalled)
	g.setDeadline(g.last.Add(limit))
	g.writes.SetWriteDeadline(g.last) // the first write starts the watch
	return g
}

func (*idleGate) Allow(max int) (int, error) { return max, nil }

func (g *idleGate) Passed(n int, err error) error {
	if n > 0 {
		g.last, g.writeTime = time.Now(), g.socket.WriteTime()
		if g.last.After(g.due) {
			// The next read also waits for bytes that arrived while the sink was slow (see
			// NewDeadline).
			g.setDeadline(g.last.Add(g.limit))
		}
	}
	return err
}

func (g *idleGate) setDeadline(t time.Time) {
	g.due = t
	g.reads.SetReadDeadline(t)
}

func (g *idleGate) expired(now time.Time) (time.Time, error) {
	end := g.last.Add(g.limit + g.socket.WriteTime() - g.writeTime)
	if now.Before(end) {
		g.due = end
		return end, nil
	}
	return time.Time{}, fmt.Errorf("%w: no byte for %v", ErrIdle, g.limit)
}

// stalled checks that the client takes the bytes of a write.
func (g *idleGate) stalled(now time.Time) (time.Time, error) {
	next, ok := g.stall.Look(now)
	if !ok {
		return next, fmt.Errorf("%w: it took no byte for %v", ErrIdle, g.limit)
	}
	return next, nil
}

// end removes the deadlines.
func (g *idleGate) end(err error) error {
	g.reads.SetReadDeadline(time.Time{})
	g.writes.SetWriteDeadline(time.Time{})
	return err
}

var _ Gate = (*idleGate)(nil)
