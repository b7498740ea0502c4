package stage

import (
	"context"
	"io"
)

// Bracket is a [Stage] that does something before what is inside it, and
// something after, and leaves it alone meanwhile. Brackets that follow each other
// in a chain are called one after the other and not one within the other: what
// waits inside of many of them takes no more stack than inside of one, and the
// stack is most of the memory that a connection takes. All stages of this package
// are Brackets but [Recover].
//
// It is called before what is inside. If it returns an error, nothing inside is
// called; an io.EOF says that the connection is done, and is nil to the stages
// outside. Otherwise after, unless it is nil, is called with how what is inside
// ended, and returns how this stage did. While a panic passes by, after is called
// with an [ErrPanic], and what it returns is lost.
type Bracket func(ctx context.Context, c *Conn) (after func(err error) error, err error)

// Wrap puts b around next.
func (b Bracket) Wrap(next Handler) Handler {
	if inner, ok := next.(*brackets); ok {
		return &brackets{append([]Bracket{b}, inner.list...), inner.next}
	}
	return &brackets{[]Bracket{b}, next}
}

// brackets are Brackets, the outermost first, around next.
type brackets struct {
	list []Bracket
	next Handler
}

func (b *brackets) Serve(ctx context.Context, c *Conn) error {
	outside := len(c.after)
	defer c.unwind(outside)
	for _, before := range b.list {
		after, err := before(ctx, c)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return c.leave(outside, err)
		}
		c.after = append(c.after, after)
	}
	return c.leave(outside, b.next.Serve(ctx, c))
}

// leave calls what is to be done after, down to what stages outside have put
// there, with how what is inside has ended.
func (c *Conn) leave(outside int, err error) error {
	for len(c.after) > outside {
		if after := c.pop(); after != nil {
			err = after(err)
		}
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
	if after != nil {
		after(errUnwinding)
	}
}

func (c *Conn) pop() func(error) error {
	last := len(c.after) - 1
	after := c.after[last]
	c.after = c.after[:last]
	return after
}
