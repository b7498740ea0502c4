package stage

import (
	"context"
	"fmt"
	"math"
	"time"
)

// MinRate is a stage that ends a connection with [ErrTooSlow] when its peer sends
// less than BytesPerSecond for as long as Grace: from the moment this stage is
// entered, and again from each moment at which the peer has brought what that comes to
// (BytesPerSecond times Grace), it has Grace to bring as much once more. What it
// brings beyond is not saved up for later. A payload that ends in time may be
// smaller.
//
// Only the time of waiting for the peer counts: not what the sink and other gates
// before c.In take, from when bytes have come until the connection is asked for more, nor
// what is done in between where a reader of another stage stands before c.In.
//
// It counts what it sees of c.In, so inside of a [Handshake] that is the payload. It
// sees no bytes, so zero-copy survives it.
type MinRate struct {
	// BytesPerSecond is what a peer has to send at least. 0 or less means no limit.
	BytesPerSecond int64

	// Grace is the time over which that is looked at. It must be more than 0,
	// unless there is no limit.
	Grace time.Duration
}

// Wrap makes next's reads of c.In end when the peer is too slow.
func (s MinRate) Wrap(next Handler) Handler {
	if s.BytesPerSecond <= 0 {
		return next
	}
	if s.Grace <= 0 {
		panic("stage: MinRate without Grace")
	}
	need := int64(math.MaxInt64)
	if n := math.Ceil(float64(s.BytesPerSecond) * s.Grace.Seconds()); n < math.MaxInt64 {
		need = int64(n)
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		now := time.Now()
		g := &rateGate{renewal: renewal{conn: c.NewDeadline()}, limit: s, need: need, since: now, clock: c.readClock()}
		g.err = g.set(now.Add(s.Grace))
		c.In = newPeerReader(c.In, g)
		return g.after, nil
	}).Wrap(next)
}

// rateGate leaves its deadline alone while bytes arrive, as IdleGate does: when it
// passes, the gate looks when it was last that enough had come.
type rateGate struct {
	renewal
	limit  MinRate
	need   int64     // within Grace
	got    int64     // since then
	since  time.Time // when Grace began to run, later by what the sink has taken
	clock  *readClock
	asked  time.Time     // when the read that is under way began
	waited time.Duration // what had been waited for the connection then
	handed time.Time     // when bytes were handed to the sink; zero while the peer is waited for
}

// Allow allows everything. The peer's time runs from now.
func (g *rateGate) Allow(max int) (int, error) {
	if !g.handed.IsZero() {
		g.since = g.since.Add(time.Since(g.handed))
		g.handed = time.Time{}
	}
	if g.clock != nil {
		g.asked, g.waited = time.Now(), g.clock.waitedFor()
	}
	return max, g.err
}

// Passed notes what has come, and turns an os.ErrDeadlineExceeded into ErrTooSlow,
// or into nil if there is time left.
func (g *rateGate) Passed(n int, err error) error {
	now := time.Now()
	if !g.asked.IsZero() { // and not for longer than the connection was waited for
		g.since = g.since.Add(max(0, now.Sub(g.asked)-(g.clock.waitedFor()-g.waited)))
		g.asked = time.Time{}
	}
	if n > 0 {
		g.handed = now
		g.got += int64(n)
		if g.got >= g.need {
			g.got, g.since, g.late = 0, now, false
		}
	}
	if !g.passed(err, now) {
		return err
	}
	over, err := g.renew(now, g.limit.Grace-now.Sub(g.since))
	if over {
		return fmt.Errorf("%w: %d bytes in %v, less than %d in a second", ErrTooSlow, g.got, g.limit.Grace, g.limit.BytesPerSecond)
	}
	return err
}

var _ Gate = (*rateGate)(nil)
