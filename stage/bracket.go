package stage

import (
	"context"
	"io"
)

// Bracket is a [Stage] that does something before what is inside it, and
// something after, and leaves it alone meanwhile. Brackets that follow each other
// in a chain are called one after the other and not one within the other: what
// waits inside of many of them takes no more stack than inside of one, and a
// [Session] can be left while it waits. All stages of this package are Brackets
// but [Recover] and [Frames].
//
// It is called before what is inside, once for each connection. If it returns an
// error, nothing inside is called, and neither is after: what it holds by then it gives
// back itself. An io.EOF says that the connection is done, and is nil to the stages
// outside. Otherwise after, unless it is nil, is called once with how what is inside
// ended, and returns how this stage did: err, unless it has reason to change it. It
// may be another goroutine that calls it, but not at the same time as anything else of
// this connection. While a panic passes by, after is called with an [ErrPanic],
// and what it returns is lost.
//
// ctx is that of the connection. A stage that has what is inside get another one
// is no Bracket.
type Bracket func(ctx context.Context, c *Conn) (after func(err error) error, err error)

// Wrap puts b around next.
func (b Bracket) Wrap(next Handler) Handler { return step{before: b}.wrap(next) }

// step is a Bracket, and where it can be left and called again.
type step struct {
	before Bracket
	leaves leaves
}

func (s step) wrap(next Handler) Handler {
	if inner, ok := next.(*brackets); ok {
		return &brackets{append([]step{s}, inner.list...), inner.next}
	}
	return &brackets{[]step{s}, next}
}

// brackets are Brackets, the outermost first, around next.
type brackets struct {
	list []step
	next Handler
}

func (b *brackets) Serve(ctx context.Context, c *Conn) error {
	outside := len(c.after)
	defer c.unwind(outside)
	for _, s := range b.list {
		if done, err := c.enter(ctx, s.before); done {
			return c.leave(outside, err)
		}
	}
	return c.leave(outside, b.next.Serve(ctx, c))
}

// enter calls before, and keeps what is to be done after. It reports true if
// nothing inside is to be called, and how the connection has ended then.
func (c *Conn) enter(ctx context.Context, before Bracket) (done bool, err error) {
	after, err := before(ctx, c)
	if err == io.EOF {
		return true, nil
	}
	if err == nil && after != nil {
		c.after = append(c.after, after)
	}
	return err != nil, err
}

// leave calls what is to be done after, down to what stages outside have put
// there, with how what is inside has ended.
func (c *Conn) leave(outside int, err error) error {
	for len(c.after) > outside {
		err = c.pop()(err)
	}
	return err
}

// unwind does the same while a panic, or a runtime.Goexit, passes by; otherwise
// nothing is left to be done.
func (c *Conn) unwind(outside int) {
	if len(c.after) <= outside {
		return
	}
	after := c.pop()
	defer c.unwind(outside)
	after(errUnwinding)
}

func (c *Conn) pop() func(error) error {
	last := len(c.after) - 1
	after := c.after[last]
	c.after = c.after[:last]
	return after
}
