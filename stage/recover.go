package stage

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
)

// Recover is a stage that turns a panic of what is inside it into an error, a
// [*PanicError], so that it ends this connection only and the stages outside
// act on it as on any other failure.
type Recover struct{}

// Wrap recovers from panics of next.
func (Recover) Wrap(next Handler) Handler {
	return HandlerFunc(func(ctx context.Context, c *Conn) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		return next.Serve(ctx, c)
	})
}

// PanicError is a panic that [Recover] caught. For errors.Is it is [ErrPanic]
// and, if the panic's value was an error, that error.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // the goroutine's stack then, as runtime/debug.Stack has it
}

// Error returns one line, without the stack.
func (e *PanicError) Error() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%v: %v", ErrPanic, e.Value)), " ")
}

// Unwrap returns ErrPanic and the panic's value if that is an error.
func (e *PanicError) Unwrap() []error {
	if err, ok := e.Value.(error); ok {
		return []error{ErrPanic, err}
	}
	return []error{ErrPanic}
}
