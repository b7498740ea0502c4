package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// MaxDuration is a stage that ends a connection with [ErrTooLong] when its peer
// has not ended its stream within Limit, whether bytes flow or not. The time runs
// from the moment this stage is entered, and nothing restarts it. What the sink takes
// counts as well; what is done once the stream has ended, such as a commit, does not. It
// ends writes to c.Reply as it ends reads, also those that a layer inside does on its
// own, as TLS does within a read: until what is inside has ended.
//
// It sees no bytes, so zero-copy survives it.
type MaxDuration struct {
	// Limit is how long a connection may last. 0 or less means no limit.
	Limit time.Duration
}

// Wrap makes next's reads of c.In end when the time is over.
func (s MaxDuration) Wrap(next Handler) Handler {
	if s.Limit <= 0 {
		return next
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		g := new(durationGate)
		g.start(c, s.Limit)
		c.In = NewReader(c.In, g)
		w := &durationWriteGate{durationGate: g}
		c.limitWrites(w)
		return func(err error) error {
			c.unlimitWrites(w)
			return g.after(err)
		}, nil
	}).Wrap(next)
}

// durationGate ends reads when the time is over.
type durationGate struct{ timeout }

// durationWriteGate ends writes. Most connections have none, so that the deadline is set
// by the first.
type durationWriteGate struct {
	*durationGate
	set bool
}

func (g *durationWriteGate) Allow(max int) (int, error) {
	if g.set {
		return max, nil
	}
	g.set = true
	return max, g.SetWriteDeadline(g.end)
}

func (g *durationGate) Allow(max int) (int, error) { return max, g.err }

func (g *durationGate) Passed(_ int, err error) error { return g.explain(err, ErrTooLong) }

// timeout is a time of a connection that is set once.
type timeout struct {
	Deadline
	end   time.Time
	limit time.Duration
	err   error // from setting it
}

// start sets it to so much time from now. It must not be copied from then on.
func (t *timeout) start(c *Conn, limit time.Duration) {
	*t = timeout{Deadline: Deadline{c: c}, end: time.Now().Add(limit), limit: limit}
	t.err = t.SetReadDeadline(t.end)
}

// stop has it no longer end anything.
func (t *timeout) stop() error {
	t.SetReadDeadline(time.Time{})
	if t.write.IsZero() {
		return nil
	}
	return t.SetWriteDeadline(time.Time{})
}

// after stops that of a connection which has ended.
func (t *timeout) after(err error) error {
	t.stop()
	return err
}

// explain says that an os.ErrDeadlineExceeded is of kind cause, if it is this
// timeout that has passed.
func (t *timeout) explain(err, cause error) error {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(t.end) {
		return err
	}
	return fmt.Errorf("%w: over %v", cause, t.limit)
}

var _ Gate = (*durationGate)(nil)
