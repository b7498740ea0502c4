package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Receipt is a stage that has a last word to the peer, for protocols that have one, if
// what is inside it ended well. It stands outside of [Save]: then the payload is
// committed before the word is sent. The peer has to read after it has ended its stream.
//
// If the word cannot be sent, the connection ends with the error of c.Reply ([ErrReset],
// [ErrShutdown]), or with [ErrIdle] if the peer has not taken it within Limit. The payload
// is stored nevertheless: a peer that has got no receipt knows nothing.
//
// It counts the payload (see [Count]) and sees no bytes, so zero-copy survives it.
type Receipt struct {
	// Format returns what is sent: the number of bytes that were stored is
	// c.Counter.Count(), their digest c.Hash.Sum(nil) where there is a [Hash]. If it is
	// empty, nothing is sent.
	Format func(c *Conn) string

	// Limit is how long the peer may take to make room for the whole of the word in what
	// the system holds for it. 0 or less means ten seconds.
	Limit time.Duration
}

// receiptLimit is the Limit of a Receipt that has none.
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
	word := s.Format(c)
	if word == "" {
		return nil
	}
	d, end := c.NewDeadline(), time.Now().Add(s.Limit)
	if err := d.SetWriteDeadline(end); err != nil {
		return err
	}
	_, err := io.WriteString(c.Reply, word)
	if errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(end) {
		err = fmt.Errorf("%w: it did not take its receipt within %v", ErrIdle, s.Limit)
	}
	return errors.Join(err, d.SetWriteDeadline(time.Time{}))
}
