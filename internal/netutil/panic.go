package netutil

import (
	"fmt"
	"strings"
)

// PanicError is a panic that was recovered.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // the stack of the goroutine then, as runtime/debug.Stack returns it
}

// Error returns the value in one line, without the stack.
func (e *PanicError) Error() string { return strings.Join(strings.Fields(fmt.Sprint(e.Value)), " ") }

// Unwrap returns the value if it is an error, and otherwise nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
