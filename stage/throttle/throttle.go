// Package throttle limits how fast a server reads from its clients: each connection at a
// rate of its own, and all connections together at a shared rate.
//
//	shared := rate.NewLimiter(100<<20, 1<<20) // bytes per second, and burst
//	h := stage.Chain{
//		throttle.Throttle{BytesPerSecond: 10 << 20, Shared: shared},
//		stage.Idle{Limit: 10 * time.Second},
//	}.Then(stage.Receive)
//
// Throttle stops reading from a fast connection; the flow control of TCP then slows the
// client down. The package is separate because it needs golang.org/x/time/rate.
package throttle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/accio-go/accio/stage"
)

// Throttle is a stage that limits the bytes per second from a client. It waits before it
// reads on. It limits the bytes that the stages inside read: inside a [stage.Handshake],
// the payload.
//
// A connection waits after its bytes have passed, for exactly their number. So in any time t
// at most Burst + BytesPerSecond·t bytes and one piece pass; with Shared, one piece for each
// connection. A piece has the bytes of 4 ms at the rate, from 1 KiB to 64 KiB, and at most
// the burst. Connections that share a limiter wait for one piece each, in the order of their
// pieces, so none starves.
//
// It reads nothing while it waits. [stage.Idle] and [stage.MinRate], outside or inside, do
// not count the wait as silence of the client. A shutdown ends the wait at once, with
// [stage.ErrShutdown]. Another deadline, or a broken connection, takes effect after the wait.
//
// It sees no bytes, so zero-copy survives it.
type Throttle struct {
	// BytesPerSecond is the rate of each connection. 0 or less means no limit.
	BytesPerSecond int64

	// Burst is how many bytes of a connection may pass at once after a slower time. 0 or
	// less means the bytes of one second. It has no effect without BytesPerSecond.
	Burst int

	// Shared limits all connections that share it, in bytes per second, also across chains;
	// nil means no limit. Its limit and burst may change at any time, for later bytes: a
	// connection that already waits does not notice, and waits forever if the limit was 0.
	// A burst below 1 byte ends connections with an error, unless the limit is rate.Inf.
	Shared *rate.Limiter
}

// Wrap limits the rate at which next reads.
func (s Throttle) Wrap(next stage.Handler) stage.Handler {
	if s.BytesPerSecond <= 0 && s.Shared == nil {
		return next
	}
	return stage.Bracket(func(ctx context.Context, c *stage.Conn) (func(error) error, error) {
		c.In = stage.NewReader(c.In, s.newGate(ctx))
		return nil, nil
	}).Wrap(next)
}

// newGate returns the gate of one connection. Its waits end when ctx is cancelled.
func (s Throttle) newGate(ctx context.Context) *gate {
	g := &gate{ctx: ctx}
	if s.BytesPerSecond > 0 {
		burst := s.Burst
		if burst <= 0 {
			burst = int(min(s.BytesPerSecond, math.MaxInt))
		}
		g.limiters = append(g.limiters, rate.NewLimiter(rate.Limit(s.BytesPerSecond), burst))
	}
	if s.Shared != nil {
		g.limiters = append(g.limiters, s.Shared)
	}
	return g
}

const (
	// pieceTime is the time of a piece. Short pieces let connections that share a limiter
	// alternate quickly; but each costs two system calls.
	pieceTime = 4 * time.Millisecond
	minPiece  = 1 << 10
	maxPiece  = 64 << 10
)

type gate struct {
	ctx      context.Context
	limiters []*rate.Limiter
	free     time.Time // when the next piece may pass
}

// Allow waits until the next piece may pass, and returns its size.
func (g *gate) Allow(max int) (int, error) {
	if err := g.wait(); err != nil {
		return 0, err
	}
	for _, l := range g.limiters {
		n, err := piece(l)
		if err != nil {
			return 0, err
		}
		max = min(max, n)
	}
	return max, nil
}

func (g *gate) wait() error {
	rest := time.Until(g.free)
	if rest <= 0 {
		return nil
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-g.ctx.Done():
		return fmt.Errorf("%w: %w", stage.ErrShutdown, context.Cause(g.ctx))
	}
}

var errNoBurst = errors.New("throttle: a limiter with a burst below 1 byte lets nothing pass")

// piece returns how many bytes l lets pass before a wait.
func piece(l *rate.Limiter) (int, error) {
	limit, burst := l.Limit(), l.Burst()
	switch {
	case limit == rate.Inf:
		return maxPiece, nil
	case burst < 1:
		return 0, errNoBurst
	}
	n := min(max(float64(limit)*pieceTime.Seconds(), minPiece), maxPiece)
	return min(int(n), burst), nil
}

// Passed takes n bytes from all limiters.
func (g *gate) Passed(n int, err error) error {
	now := time.Now()
	for _, l := range g.limiters {
		if free := reserve(l, now, n); free.After(g.free) {
			g.free = free
		}
	}
	return err
}

// reserve takes n bytes from l, and returns when l has earned them.
func reserve(l *rate.Limiter, now time.Time, n int) (free time.Time) {
	for n > 0 {
		part := min(n, max(l.Burst(), 1)) // the burst may have become smaller
		r := l.ReserveN(now, part)
		if !r.OK() {
			break // Allow returns the error
		}
		free = now.Add(r.DelayFrom(now))
		n -= part
	}
	return free
}

var _ stage.Gate = (*gate)(nil)
