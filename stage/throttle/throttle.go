// Package throttle bounds how quickly a server takes what its peers send: each
// connection by a rate of its own, and all of them together by one that they share.
//
//	shared := rate.NewLimiter(100<<20, 1<<20) // bytes in a second, and at once
//	h := stage.Chain{
//		throttle.Throttle{BytesPerSecond: 10 << 20, Shared: shared},
//		stage.Idle{Limit: 10 * time.Second},
//	}.Then(stage.Receive)
//
// A connection that is throttled is not read from; TCP's flow control then slows its
// peer down. It is a package of its own since it stands on golang.org/x/time/rate.
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

// Throttle is a stage that takes no more than a number of bytes in a second from a
// connection's peer, by waiting before it reads on. It throttles what is inside of it:
// inside of a [stage.Handshake] that is the payload.
//
// Bytes are paid for when they have passed, at once and exactly, and whoever owes
// waits. So in any time t no more than Burst + BytesPerSecond·t and one piece pass; with
// Shared one piece for each connection. A piece is what comes in 4 ms, from 1 KiB to
// 64 KiB, and not more than the burst. Each connection waits for its own last piece, in
// the order in which they came, so that none starves, however much others have to send.
//
// While it waits nothing is read, and the wait is no silence of the peer to
// [stage.Idle] and [stage.MinRate], whichever stands further out. A shutdown ends the
// wait at once, with [stage.ErrShutdown]; that another deadline has passed, or that the
// connection broke, is seen when it is over.
//
// It sees no bytes, so zero-copy survives it.
type Throttle struct {
	// BytesPerSecond is the rate of each connection. 0 or less means no limit.
	BytesPerSecond int64

	// Burst is how many bytes may pass at once after a time in which fewer came than
	// might have, of each connection. 0 or less means what BytesPerSecond allows in a
	// second. It means nothing without BytesPerSecond.
	Burst int

	// Shared is the rate, in bytes a second, of all connections that share it, also of
	// other chains; nil means no limit. Its limit and burst may be changed at any
	// time, for what passes from then on: who waits already waits on, for ever where the
	// limit was 0. A burst of less than 1 byte, with a limit that is not rate.Inf, ends
	// connections with an error.
	Shared *rate.Limiter
}

// Wrap puts the throttle before what next reads.
func (s Throttle) Wrap(next stage.Handler) stage.Handler {
	if s.BytesPerSecond <= 0 && s.Shared == nil {
		return next
	}
	return stage.Bracket(func(ctx context.Context, c *stage.Conn) (func(error) error, error) {
		c.In = stage.NewReader(c.In, s.NewGate(ctx))
		return nil, nil
	}).Wrap(next)
}

// NewGate returns the [stage.Gate] that Throttle puts before a connection's reader, for
// any reader or writer: one stream with a rate and a burst of its own. Its waits end when
// ctx is cancelled.
func (s Throttle) NewGate(ctx context.Context) stage.Gate {
	g := &gate{ctx: ctx}
	if s.BytesPerSecond > 0 {
		burst := s.Burst
		if burst <= 0 {
			burst = int(min(s.BytesPerSecond, math.MaxInt))
		}
		g.limiters = append(g.room[:0], rate.NewLimiter(rate.Limit(s.BytesPerSecond), burst))
	}
	if s.Shared != nil {
		g.limiters = append(g.limiters, s.Shared)
	}
	return g
}

const (
	// pieceTime is what a piece may take, so that many who share a limit take turns
	// quickly; but a piece costs two system calls, however small it is.
	pieceTime = 4 * time.Millisecond
	minPiece  = 1 << 10
	maxPiece  = 64 << 10
)

type gate struct {
	ctx      context.Context
	limiters []*rate.Limiter
	room     [2]*rate.Limiter
	paid     time.Time // when all that has passed is paid for
}

// Allow waits until all that has passed is paid for, and allows a piece.
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
	if g.paid.IsZero() {
		return nil
	}
	rest := time.Until(g.paid)
	g.paid = time.Time{}
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

var errNoBurst = errors.New("throttle: a limiter whose burst is less than a byte lets nothing pass")

// piece is how much l lets pass before it is paid for.
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

// Passed has n bytes paid for.
func (g *gate) Passed(n int, err error) error {
	if n <= 0 {
		return err
	}
	now := time.Now()
	for _, l := range g.limiters {
		if until := pay(l, now, n); until.After(g.paid) {
			g.paid = until
		}
	}
	return err
}

// pay has l pay for n bytes, and returns when it has.
func pay(l *rate.Limiter, now time.Time, n int) time.Time {
	var until time.Time
	for n > 0 {
		// As much at once as a burst that has been made smaller meanwhile allows.
		part := min(n, max(l.Burst(), 1))
		r := l.ReserveN(now, part)
		if !r.OK() {
			break // Allow tells of it
		}
		until = now.Add(r.DelayFrom(now))
		n -= part
	}
	return until
}

var _ stage.Gate = (*gate)(nil)
