package stage

import (
	"context"
	"io"
	"slices"
)

// Bracket is a [Stage] that acts before the handler inside it and after, and does nothing
// in between. Brackets that follow each other in a chain are called one after the other and
// not nested, so a long chain takes no more stack than a short one. All stages of this
// package are Brackets, except [Recover].
//
// The Bracket is called before the handler inside, once for each connection. If it returns
// an error, the handler inside is not called, and after is not called either: the Bracket
// gives back itself what it holds by then. io.EOF means that the connection is done, and is
// nil to the stages outside. Otherwise after, unless it is nil, is called once with the
// result of the handler inside, and returns the result of this stage: err, unless it has
// reason to change it. While a panic passes, after is called with an [ErrPanic], and its
// result is lost.
//
// ctx is that of the connection. A stage that passes another one on is not a Bracket.
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
	c.after = slices.Grow(c.after, len(b.list))
	for _, before := range b.list {
		after, err := before(ctx, c)
		if err == io.EOF {
			return c.leave(outside, nil)
		}
		if err != nil {
			return c.leave(outside, err)
		}
		if after != nil {
			c.after = append(c.after, after)
		}
	}
	return c.leave(outside, b.next.Serve(ctx, c))
}

// leave calls the after functions down to those of the stages outside, the innermost first.
func (c *Conn) leave(outside int, err error) error {
	for len(c.after) > outside {
		err = c.pop()(err)
	}
	return err
}

// unwind does the same while a panic or a runtime.Goexit passes. Otherwise none are left.
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
