package stage

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"time"

	"github.com/accio-go/accio/stage/internal/socket"
)

// Conn is one connection on its way through a chain. A stage may replace In, Reply and Out
// by a reader or writer in front of them, before it calls the next handler. A handler reads
// from In, and writes to Out (the payload, to the sink) and to Reply (to the client).
//
// A Conn belongs to the goroutine that serves it. Its deadlines and the number of Counter
// are safe for concurrent use.
type Conn struct {
	// Net is the connection. Stages may use its addresses. They must not read, write or
	// close it, or set its deadlines: use In, Reply and [Conn.NewDeadline].
	//
	// A stage may replace Net by a layer: a net.Conn with a method NetConn that returns the
	// previous Net. A layer has better addresses, or changes the bytes; then the stage also
	// replaces In and Reply. [Serve] closes the layer. If the connection ends well, the
	// layer may write to Reply in Close, and closes the previous Net. Otherwise the
	// connection is already closed.
	Net net.Conn

	// Number distinguishes the connections of a server: 1 for the first accepted, in order
	// of acceptance.
	Number uint64

	// Frame distinguishes the frames of a connection, from 1 (see [Conn.NewFrame]). It is
	// 0 for a connection as a whole.
	Frame uint64

	// In reads from the client. If the connection breaks, reads fail with an [ErrReset]; if
	// the context is cancelled, with an [ErrShutdown]; if a [Deadline] passes, with the
	// error of its owner. All of these are final.
	In io.Reader

	// Reply writes to the client. It fails with the same errors as In.
	Reply io.Writer

	// Out takes the payload. It is io.Discard until a stage sets a sink.
	Out io.Writer

	// Counter counts the bytes that have reached Out. It is nil until [Count], or another
	// stage that needs the number, sets it.
	Counter *Counter

	// Hash has the digest of the bytes that have reached Out, by c.Hash.Sum(nil). It is nil
	// until the stage [Hash] sets it.
	Hash hash.Hash

	// Marked reports whether [Save] has stored its Mark in place of the payload. It is
	// final when Save has returned.
	Marked bool

	socket       *socket.Socket // shared with the frames of the connection
	after        []func(error) error
	observations *observation // the innermost first
}

// NewConn returns a Conn over nc for a chain. The Conn takes over nc, except that the
// caller closes c.Net. Most servers call [Serve] instead, which also closes the connection,
// and ends it with its context.
func NewConn(nc net.Conn, number uint64) *Conn {
	s := socket.New(nc, connectionBroke)
	return &Conn{Net: s.Conn(), Number: number, In: s, Reply: s, Out: io.Discard, socket: s}
}

func connectionBroke(err error) error { return because(ErrReset, err) }

// NewFrame returns a Conn for one frame of c. It is for a stage that calls the next handler
// once for each frame. It shares Net, Reply, Out, the deadlines and the observers of c. Its In
// is in, which ends with the frame. last, if not nil, is the previous frame of c, whose memory
// NewFrame uses again.
func (c *Conn) NewFrame(last *Conn, number uint64, in io.Reader) *Conn {
	f := last
	if f == nil {
		f = new(Conn)
	}
	*f = Conn{
		Net: c.Net, Number: c.Number, Frame: number,
		In: in, Reply: c.Reply, Out: c.Out,
		socket: c.socket, after: f.after[:0], observations: c.observations,
	}
	return f
}

// Serve passes nc through h, closes it, and returns the result of h: nil, or an
// error that wraps a cause. Serve takes over nc. number is its [Conn.Number].
//
// When ctx is cancelled, reads and writes on the connection end with [ErrShutdown]. Serve
// interrupts nothing else: a sink that is committing finishes.
//
// The close reports the result to the client. It is orderly (FIN) if h returned nil, and
// after [ErrIdle]: a client that has not ended its own stream cannot mistake that for
// success. In every other case the close is a reset (RST), also if h panics, from which
// Serve does not recover (see [Recover]), and if the process dies.
func Serve(ctx context.Context, nc net.Conn, number uint64, h Handler) error {
	c := NewConn(nc, number)
	orderly := false
	defer func() { c.close(orderly) }()
	defer c.interruptWith(ctx)()
	err := h.Serve(ctx, c)
	orderly = err == nil || errors.Is(err, ErrIdle) && !errors.Is(err, ErrStorage) && !errors.Is(err, ErrConflict)
	return err
}

// ServeFunc returns a function that serves a connection through h, for an accept loop such as
// a transport.Server. It drops the error of [Serve]: stages such as [Log] report it.
func ServeFunc(h Handler) func(ctx context.Context, nc net.Conn, number uint64) {
	return func(ctx context.Context, nc net.Conn, number uint64) { Serve(ctx, nc, number, h) }
}

// interruptWith interrupts c when ctx is cancelled, until the returned function is called.
func (c *Conn) interruptWith(ctx context.Context) (stop func() bool) {
	interrupt := func() { c.socket.Interrupt(because(ErrShutdown, context.Cause(ctx))) }
	if ctx.Err() != nil {
		interrupt() // at once: AfterFunc would do it in a goroutine
	}
	return context.AfterFunc(ctx, interrupt)
}

// close closes the connection and the layers over it.
func (c *Conn) close(orderly bool) {
	if orderly {
		c.socket.Release()
	} else {
		c.socket.Reset() // first, or a layer would say goodbye
	}
	c.Net.Close()
	c.socket.Close()
}

// SetSink makes w the sink of the payload. It stands behind the gates and the hash that
// stages outside have put in front of the previous sink. So they count, limit and hash
// the bytes that reach w. A stage that sets a sink calls it before the next handler.
func (c *Conn) SetSink(w io.Writer) { c.Out = inPlace(c.Out, w) }

// inPlace returns w behind the gates and the hash in front of the sink of out.
func inPlace(out, w io.Writer) io.Writer {
	switch o := out.(type) {
	case *gatedWriter:
		w = inPlace(o.w, w)
		if inner, ok := w.(*gatedWriter); ok {
			return &gatedWriter{inner.w, o.gates.around(inner.gates)}
		}
		return &gatedWriter{w, o.gates}
	case *hashWriter:
		return &hashWriter{inPlace(o.w, w), o.h}
	}
	return w
}

// sinkOf returns the sink of out.
func sinkOf(out io.Writer) io.Writer {
	switch o := out.(type) {
	case *gatedWriter:
		return sinkOf(o.w)
	case *hashWriter:
		return sinkOf(o.w)
	}
	return out
}

// Deadline ends reads of a Conn's In, or writes to its Reply, at a time. Each stage that
// limits time has its own, independent of the others. It is safe for concurrent use.
type Deadline struct{ d *socket.Deadline }

// NewDeadline returns a deadline of c that is not set. If a read or write waits when its
// time has passed, or begins later, the goroutine that reads or writes calls expired.
// expired returns a later time for its next call (zero: never), or the error that ends the
// read or write. A nil expired returns os.ErrDeadlineExceeded. expired must not read from
// c.In or write to c.Reply.
//
// A read that begins after the time, or notices it late, goes on for ten milliseconds before
// it calls expired. So bytes that arrived while the server was busy are not late.
//
// Once the context of the connection is cancelled, deadlines have no effect.
func (c *Conn) NewDeadline(expired func(now time.Time) (next time.Time, err error)) Deadline {
	return Deadline{c.socket.NewDeadline(expired)}
}

// SetDeadline sets the time for reads and for writes; zero means never.
func (d Deadline) SetDeadline(t time.Time) {
	d.d.SetRead(t)
	d.d.SetWrite(t)
}

// SetReadDeadline sets the time for reads; zero means never.
func (d Deadline) SetReadDeadline(t time.Time) { d.d.SetRead(t) }

// SetWriteDeadline sets the time for writes; zero means never.
func (d Deadline) SetWriteDeadline(t time.Time) { d.d.SetWrite(t) }

// limitTime ends reads and writes of c with cause after limit, until the returned Deadline
// is set to zero.
func (c *Conn) limitTime(limit time.Duration, cause error) Deadline {
	d := c.NewDeadline(func(time.Time) (time.Time, error) {
		return time.Time{}, fmt.Errorf("%w: over %v", cause, limit)
	})
	d.SetDeadline(time.Now().Add(limit))
	return d
}
