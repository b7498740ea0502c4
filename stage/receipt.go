package stage

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Receipt is a stage that sends the client a receipt when the handler inside ended well, for
// protocols that have one. It stands outside of [Save], so that the payload is committed
// before the receipt is sent. The client must read after it has ended its stream.
//
// If the receipt cannot be sent, the connection ends with the error of c.Reply ([ErrReset],
// [ErrShutdown]). If the client does not take it within Limit, that is [ErrIdle]. The
// payload is stored nevertheless: a client without a receipt cannot know.
//
// Receipt counts the payload (see [Count]) and sees no bytes, so zero-copy survives it.
type Receipt struct {
	// Format returns the receipt. The number of bytes stored is c.Counter.Count(), their
	// digest c.Hash.Sum(nil) if the chain has a [Hash]. An empty receipt is not sent.
	Format func(c *Conn) string

	// Limit is how long the client may take to make room for the whole receipt in the
	// buffers of the system. 0 or less means ten seconds.
	Limit time.Duration
}

// receiptLimit is the default Limit of a Receipt.
const receiptLimit = 10 * time.Second

// Wrap sends the receipt after next.
func (s Receipt) Wrap(next Handler) Handler {
	if s.Format == nil {
		panic("stage: Receipt without Format")
	}
	if s.Limit <= 0 {
		s.Limit = receiptLimit
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.count()
		return func(err error) error {
			if err != nil {
				return err
			}
			return s.send(c)
		}, nil
	}).Wrap(next)
}

func (s Receipt) send(c *Conn) error {
	text := s.Format(c)
	if text == "" {
		return nil
	}
	deadline := c.NewDeadline(func(time.Time) (time.Time, error) {
		return time.Time{}, fmt.Errorf("%w: it did not take its receipt within %v", ErrIdle, s.Limit)
	})
	deadline.SetWriteDeadline(time.Now().Add(s.Limit))
	defer deadline.SetWriteDeadline(time.Time{})
	_, err := io.WriteString(c.Reply, text)
	return err
}
