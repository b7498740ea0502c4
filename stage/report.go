package stage

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
)

// Report is a stage that writes one line for each connection as soon as it has ended. The
// line is the number of payload bytes in decimal, or [ErrorMark] if it failed. It writes the
// line before the connection is closed.
//
// Report counts the payload (see [Count]) and sees no bytes, so zero-copy survives it.
type Report struct {
	// W takes each line in one Write, and one Write at a time. If a Write fails, the
	// connection ends with [ErrReport], beside any other error.
	W io.Writer
}

// Wrap reports how next ended.
func (s Report) Wrap(next Handler) Handler {
	if s.W == nil {
		panic("stage: Report without W")
	}
	var mu sync.Mutex
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		n := c.count()
		return func(err error) error {
			line := ErrorMark
			if OutcomeOf(err, n.Count()).OK() {
				line = strconv.FormatInt(n.Count(), 10)
			}
			mu.Lock()
			defer mu.Unlock()
			_, werr := io.WriteString(s.W, line+"\n")
			if werr != nil {
				err = errors.Join(err, because(ErrReport, werr))
			}
			return err
		}, nil
	}).Wrap(next)
}
