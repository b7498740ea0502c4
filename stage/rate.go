package stage

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/accio-go/accio/stage/internal/socket"
)

// MinRate is a stage that ends a connection with [ErrTooSlow] when its client sends less
// than BytesPerSecond for as long as Grace. The client has Grace to send BytesPerSecond
// times Grace, from the entry into this stage, and again each time it has sent as much.
// Bytes beyond that are not saved up. A payload that ends in time may be smaller.
//
// Only time that is spent reading from the connection counts. The time of the sink, of a
// throttle and of other readers does not.
//
// MinRate counts the bytes of c.In: inside of a [Handshake] that is the payload. It sees no
// bytes, so zero-copy survives it.
type MinRate struct {
	// BytesPerSecond is how much a client must send. 0 or less means no limit.
	BytesPerSecond int64

	// Grace is the time over which the rate is measured. It must be more than 0, unless
	// there is no limit.
	Grace time.Duration
}

// Wrap makes next's reads of c.In end when the client is too slow.
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
		g := &rateGate{socket: c.socket, limit: s, need: need, since: c.socket.ReadTime()}
		deadline := c.NewDeadline(g.expired)
		deadline.SetReadDeadline(time.Now().Add(s.Grace))
		c.In = NewReader(c.In, g)
		return func(err error) error {
			deadline.SetReadDeadline(time.Time{})
			return err
		}, nil
	}).Wrap(next)
}

// rateGate counts the client's bytes. Like idleGate, it moves its deadline only when it
// has passed.
type rateGate struct {
	socket *socket.Socket
	limit  MinRate
	need   int64         // bytes within Grace
	got    int64         // of them
	since  time.Duration // the socket's ReadTime when Grace began
}

func (*rateGate) Allow(max int) (int, error) { return max, nil }

func (g *rateGate) Passed(n int, err error) error {
	if g.got += int64(n); g.got >= g.need {
		g.got, g.since = 0, g.socket.ReadTime()
	}
	return err
}

func (g *rateGate) expired(now time.Time) (time.Time, error) {
	if left := g.limit.Grace - (g.socket.ReadTime() - g.since); left > 0 {
		return now.Add(left), nil
	}
	return time.Time{}, fmt.Errorf("%w: %d bytes in %v, less than %d in a second",
		ErrTooSlow, g.got, g.limit.Grace, g.limit.BytesPerSecond)
}

var _ Gate = (*rateGate)(nil)
