package stage

import "context"

// Handler serves a connection. It returns nil if the connection ended as it
// should: the peer's stream is at its end, and all of the payload is in c.Out, so that
// stages outside may commit it. Otherwise it returns why it ended, as an error for
// errors.Is (see [ErrIdle] and the others beside it).
//
// It closes neither the connection nor what c.Out stands for. c is its own until it
// returns, and no longer: what it has begun is over by then, its goroutines too.
//
// It returns soon after ctx is cancelled; ctx is for that only, and carries no
// values. Reads of c.In and writes to c.Reply end by themselves then, with
// [ErrShutdown]; who waits for something else waits for ctx as well, and returns an
// ErrShutdown.
//
// Many goroutines may call Serve at a time, each with its own Conn.
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
// unless it has reason to change it. Most stages are made by a [Bracket].
//
// Wrap is called once, when the chain is put together; it panics if the Stage's
// fields make no sense, since that is a fault in the program. They do not change
// after that. Many goroutines call the Handler at a time: what belongs to one
// connection is kept in its call, and what all of them share is guarded.
//
// In a [Chain] the stages are entered from the outermost to the innermost, and left
// the other way round. Each finds In, Reply and Out as those outside of it have left
// them, and changes them before it calls next, for those inside only. So what comes
// from the peer passes the outer stage's reader first, and what goes to the sink
// passes the inner stage's writer first. A stage that sets a sink does so by
// [Conn.SetSink]; what one puts before c.Out stays before the sink that is set inside of
// it if it is a [Gate], and is lost if it is a writer of its own.
//
// A stage calls next once or not at all ([Frames] calls it for each frame). By an error
// of its own it ends the connection, and those outside act on it: it wraps the cause
// that it is for errors.Is, such as [ErrProtocol]. One that wraps none is taken for a
// fault of the program's ([OutcomeFailed]). A panic of next passes by, and the stage
// gives back what it holds all the same.
//
// It closes nothing that it has not opened. A time that it sets for reads is a
// [Deadline] of its own, which it removes when next has returned.
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
var Receive Handler = receive{}

type receive struct{}

func (receive) Serve(_ context.Context, c *Conn) error {
	_, err := Copy(c.Out, c.In)
	return err
}

var _ Stage = Chain(nil)
