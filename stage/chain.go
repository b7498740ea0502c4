package stage

import "context"

// Handler serves a connection. It returns nil if the connection ended as it
// should, and otherwise why it ended, as an error for errors.Is (see
// [ErrIdle] and the others beside it). It does not close the connection. It
// returns soon after ctx is cancelled; ctx is for that only, and carries no
// values. Many goroutines may call Serve at a time, each with its own Conn.
type Handler interface {
	Serve(ctx context.Context, c *Conn) error
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, c *Conn) error

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, c *Conn) error { return f(ctx, c) }

// Stage is middleware: one thing that happens on a connection, wrapped around
// what happens next. The Handler that Wrap returns may talk to the peer before
// it calls next, replace c.In, c.Reply and c.Out (to see bytes by a reader or
// writer of its own; to count or limit them without losing zero-copy by a
// [Gate]), call next or not, and act on what next returned, which it passes on
// unless it has reason to change it.
//
// Wrap is called once, when the chain is put together; it panics if the Stage's
// fields make no sense, since that is a fault in the program.
type Stage interface {
	Wrap(next Handler) Handler
}

// StageFunc is a function as a [Stage].
type StageFunc func(next Handler) Handler

// Wrap calls f.
func (f StageFunc) Wrap(next Handler) Handler { return f(next) }

// Chain is stages in order, the outermost first. A Chain is itself a Stage.
type Chain []Stage

// Then returns the handler that passes a connection through the stages of the
// chain and then to h.
func (ch Chain) Then(h Handler) Handler {
	for i := len(ch) - 1; i >= 0; i-- {
		h = ch[i].Wrap(h)
	}
	return h
}

// Wrap is Then, which makes a chain a stage of a longer one.
func (ch Chain) Wrap(next Handler) Handler { return ch.Then(next) }

// Receive is what most chains end with: it copies what the peer sends to where
// the stages have the payload go (c.In to c.Out, by [Copy]), until the peer
// ends its stream.
var Receive Handler = HandlerFunc(func(_ context.Context, c *Conn) error {
	_, err := Copy(c.Out, c.In)
	return err
})

var _ Stage = Chain(nil)
