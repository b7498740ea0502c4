package stage

import (
	"context"
	"time"
)

// MaxDuration is a stage that ends a connection with [ErrTooLong] when its client has not
// ended its stream within Limit, whether bytes flow or not. The time runs from the moment
// this stage is entered, and nothing restarts it. The time of the sink counts as well. Work
// after the end of the stream, such as a commit, does not.
//
// MaxDuration ends writes to c.Reply as it ends reads, also writes of a layer inside, such
// as TLS. It sees no bytes, so zero-copy survives it.
type MaxDuration struct {
	// Limit is how long a connection may last. 0 or less means no limit.
	Limit time.Duration
}

// Wrap makes next's reads of c.In and writes to c.Reply end when the time is over.
func (s MaxDuration) Wrap(next Handler) Handler {
	if s.Limit <= 0 {
		return next
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		deadline := c.limitTime(s.Limit, ErrTooLong)
		return func(err error) error {
			deadline.SetDeadline(time.Time{})
			return err
		}, nil
	}).Wrap(next)
}
