package stage

import "context"

// Handler serves a connection. It returns nil if the connection ended as it should: the
// client ended its stream, and c.Out has all of the payload. Then stages outside may
// commit it. Otherwise it returns an error that wraps a cause (see [ErrIdle] and the
// others beside it).
//
// It closes neither the connection nor the sink of c.Out. It owns c until it returns.
// The goroutines that it starts end before that.
//
// It returns soon after ctx is cancelled. Reads of c.In and writes to c.Reply end by
// themselves then, with [ErrShutdown]. A Handler that waits for something else waits for ctx
// as well, and returns an ErrShutdown. ctx carries no values.
//
// Many goroutines may call Serve at the same time, each with its own Conn.
type Handler interface {
	Serve(ctx context.Context, c *Conn) error
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, c *Conn) error

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, c *Conn) error { return f(ctx, c) }

// Stage is middleware: it wraps one action on a connection around the next handler. Most
// stages are made by a [Bracket].
//
// The Handler that Wrap returns may talk to the client before it calls next. It may replace
// c.In, c.Reply and c.Out. A reader or writer of its own sees the bytes. A [Gate] counts or
// limits them and keeps zero-copy. It may act on the result of next, and returns it unless
// it has reason to change it.
//
// Wrap is called once, when the chain is put together. It panics if the fields of the Stage
// make no sense, since that is a fault in the program. The fields do not change after that.
// Many goroutines call the Handler at the same time: it keeps the state of a connection in
// local variables, and guards shared state.
//
// A [Chain] enters its stages from the outermost to the innermost, and leaves them the other
// way round. Each stage gets In, Reply and Out from the stages outside, and changes them
// before it calls next, for the stages inside only. So bytes from the client pass the outer
// stage's reader first, and bytes to the sink pass the inner stage's writer first. A stage
// that sets a sink calls [Conn.SetSink]. A [Gate] that a stage outside has put in front of
// c.Out then stays in front of the new sink; a writer of its own is lost.
//
// A stage calls next once or not at all (a stage of frames calls it for each frame). Its own
// error ends the connection, and the stages outside act on it. The error wraps a cause, such
// as [ErrProtocol]; an error without a cause counts as a fault of the program
// ([OutcomeFailed]). If next panics, the stage releases its resources and lets the panic
// pass.
//
// A stage closes nothing that it did not open. If it limits time, it has its own [Deadline],
// and removes it when next has returned.
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

// Receive is the last handler of most chains. It copies c.In to c.Out, by [Copy], until the
// client ends its stream.
var Receive Handler = receive{}

type receive struct{}

func (receive) Serve(_ context.Context, c *Conn) error {
	_, err := Copy(c.Out, c.In)
	return err
}

var _ Stage = Chain(nil)
