package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"
)

// Consumer reads every file of a [Store] while it arrives, also a Mark of stage.Save. It
// never delays a Write. Commit and Abort wait for it to return, so there are never more
// Consumers running than files arrive.
type Consumer struct {
	// Consume reads the file that was created as name. The Store calls it once for each
	// file, in a goroutine of its own. Consume may return before it has read the whole
	// file, and must not use r after that.
	//
	// Consume must return soon after ctx is done or a Read has failed: Commit and Abort
	// wait for it without a limit. ctx is derived from the ctx of [Store.Create]. ctx
	// is also done after the Store's ConsumerLimit, and when the file fails, with the
	// reason as its cause (context.Cause). stage.Save does not cancel ctx when the
	// server stops: a Consumer that must end then uses the server's context.
	Consume func(ctx context.Context, name string, r io.Reader) error

	// Decisive makes Commit wait until Consume has returned nil. A decisive Consumer reads
	// io.EOF when all bytes were received, before the commit, which may still fail. Other
	// Consumers read io.EOF after the commit, like readers of [Store.Open].
	//
	// If it returns an error, the file fails with that error, wrapped: Write, Commit and
	// all readers return it, and the file is removed. It has a method Rejected, which
	// makes stage.Save end the connection with a stage.ErrRejected. If a Read failed,
	// the file fails with the error of the Read: the Consumer has not seen the file.
	Decisive bool

	// OnError, if not nil, receives errors of a Consume that is not decisive, including
	// errors of its Reads. They do not affect the file. The goroutine that commits or
	// aborts the file calls OnError at the end, and waits for it.
	OnError func(name string, err error)
}

// ErrPanic is the error of a file whose [Consumer] panicked, decisive or not, unless the commit
// had begun by then. If the panic's value is an error, the error also wraps it. A method
// Stack() []byte returns the stack, as runtime/debug.Stack does.
var ErrPanic = errors.New("panic of a consumer")

// rejection is the error of a decisive consumer.
type rejection struct {
	name string
	err  error
}

func (r *rejection) Error() string {
	return fmt.Sprintf("%s rejected by a consumer: %v", r.name, r.err)
}
func (r *rejection) Unwrap() error  { return r.err }
func (r *rejection) Rejected() bool { return true } // implements stage.Rejection

// panicError is an ErrPanic.
type panicError struct {
	value any
	stack []byte
}

// Error returns one line.
func (e *panicError) Error() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%v: %v", ErrPanic, e.value)), " ")
}

func (e *panicError) Unwrap() []error {
	if err, ok := e.value.(error); ok {
		return []error{ErrPanic, err}
	}
	return []error{ErrPanic}
}

func (e *panicError) Stack() []byte { return e.stack }

// errExited is the error of a Consume that called runtime.Goexit.
var errExited = fmt.Errorf("%w: it ended its goroutine", ErrPanic)

// consumption is a Consumer that reads one file.
type consumption struct {
	Consumer
	in   *reader
	done chan struct{} // closed after err is set
	err  error         // of Consume
}

// startConsumers starts the consumers of f. It opens all readers first, since the first
// consumer may fail the file.
func (f *file) startConsumers() error {
	for _, c := range f.store.Consumers {
		r, err := f.newReader(f.consuming, !c.Decisive)
		if err != nil {
			return err
		}
		f.consumers = append(f.consumers, &consumption{Consumer: c, in: r, done: make(chan struct{})})
	}
	for _, c := range f.consumers {
		go f.consume(c)
	}
	return nil
}

func (f *file) consume(c *consumption) {
	defer close(c.done)
	defer c.in.Close()
	returned := false
	defer func() {
		if v := recover(); v != nil {
			c.err = &panicError{value: v, stack: debug.Stack()}
		} else if !returned {
			c.err = errExited
		}
		readErr := c.in.firstErr()
		switch {
		case !returned:
			f.fail(fmt.Errorf("%s: %w", f.name, c.err))
		case !c.Decisive:
		case readErr != nil:
			f.fail(readErr)
		case c.err != nil:
			f.fail(&rejection{f.name, c.err})
		}
	}()
	c.err = c.Consume(f.consuming, f.name, c.in)
	returned = true
}

// awaitConsumers waits for the decisive consumers, or for the others. It calls late when the
// limit has passed.
func (f *file) awaitConsumers(decisive bool, late func(error)) {
	var passed <-chan time.Time
	limit := f.store.ConsumerLimit
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		passed = timer.C
	}
	for _, c := range f.consumers {
		if c.Decisive != decisive {
			continue
		}
		select {
		case <-c.done:
		case <-passed:
			late(fmt.Errorf("%s: a consumer took longer than %v: %w", f.name, limit, context.DeadlineExceeded))
			<-c.done
		}
	}
}

// endConsumers waits for all consumers, and reports their errors.
func (f *file) endConsumers() {
	for _, c := range f.consumers {
		<-c.done
	}
	f.cancel(nil)
	for _, c := range f.consumers {
		if c.err != nil && !c.Decisive && c.OnError != nil {
			c.OnError(f.name, c.err)
		}
	}
}
