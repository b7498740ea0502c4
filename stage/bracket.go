package stage

import (
	"context"
	"io"
	"slices"
)

// Bracket is a [Stage] that acts before the handler inside it and after, and does nothing
// in between. A chain calls Brackets that follow each other in turn, not nested, so a long
// chain takes no more stack than a short one. All stages of this package are Brackets,
// except [Recover].
//
// The chain calls the Bracket before the handler inside, once for each connection. If it
// returns an error, the chain calls neither the handler inside nor after: the Bracket
// releases its resources itself. io.EOF means that the connection is done, and is nil to
// the stages outside. Otherwise the chain calls after, unless it is nil, once with the
// result of the handler inside. after returns the result of this stage: err, unless it has
// reason to change it. While a panic passes, the chain calls after with an [ErrPanic], and
// ignores its result.
//
// ctx is the context of the connection. A stage that passes on another context is not
// a Bracket.
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

// leave calls all after functions but the first outside ones, the innermost first.
func (c *Conn) leave(outside int, err error) error {
	for len(c.after) > outside {
		err = c.pop()(err)
	}
	return err
}

// unwind does the same while a panic or a runtime.Goexit passes. Otherwise no function is
// left.
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
