package stage

import (
	"context"
	"runtime/debug"

	"github.com/accio-go/accio/internal/netutil"
)

// Recover is a stage that turns a panic of the handler inside into an [ErrPanic] with a
// [*PanicError] beneath. So the panic ends this connection only, and the stages outside
// act on it as on any other failure.
type Recover struct{}

// Wrap recovers from panics of next.
func (Recover) Wrap(next Handler) Handler {
	return HandlerFunc(func(ctx context.Context, c *Conn) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = because(ErrPanic, &PanicError{Value: v, Stack: debug.Stack()})
			}
		}()
		return next.Serve(ctx, c)
	})
}

// PanicError is a panic that [Recover] caught. Value is the argument of panic; if it is an
// error, the PanicError is that error for errors.Is. Stack is the stack of the goroutine
// then. Error returns one line, without the stack.
type PanicError = netutil.PanicError
