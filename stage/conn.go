package stage

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Conn is one connection on its way through a chain. A stage may replace In,
// Reply and Out by what it puts in front of them, before it calls the next
// handler; a handler reads from In and writes to Out (payload, to the sink) and
// Reply (to the peer).
//
// A Conn is for the one goroutine that serves it. Its deadlines and Counter's
// count may be used by any.
type Conn struct {
	// Net is the connection itself. Stages need it for its addresses; they do
	// not read, write or close it, and set its read deadline by a [Deadline]
	// of their own only.
	Net net.Conn

	// Number tells this connection from the others of its server: 1 for the
	// first that was accepted, in order of acceptance.
	Number uint64

	// In is what comes from the peer. A failure of the connection is an
	// [ErrReset], or an [ErrShutdown] if the context was cancelled; a read
	// deadline that passes is an os.ErrDeadlineExceeded, for the stage that set
	// it to explain.
	In io.Reader

	// Reply is what goes to the peer. Its errors are as those of In.
	Reply io.Writer

	// Out is where the payload goes: io.Discard until a stage sets a sink.
	Out io.Writer

	// Counter counts the bytes that have reached Out, once [Count] or a stage
	// that needs the number has put it there; nil until then.
	Counter *Counter

	after []func(error) error // see brackets
	stop  func() bool         // ends the watch of the context; nil when that has ended

	mu        sync.Mutex
	stopped   error       // why I/O was interrupted, or nil
	deadlines []*Deadline // all that are set

	// What In and Reply are at first, and room for what most chains need: one
	// object where there would be many.
	in    Reader
	reply Writer
	gate  [1]Gate
	room  [4]func(error) error
}

// NewConn returns nc, ready to be passed to a chain. It does not take nc over:
// the caller closes it. Most servers call [Serve] instead, which also closes
// the connection as it ought to be, and ends it when its context does.
func NewConn(nc net.Conn, number uint64) *Conn {
	c := &Conn{Net: nc, Number: number, Out: io.Discard}
	c.gate[0] = (*netGate)(c)
	c.in, c.reply = Reader{nc, c.gate[:]}, Writer{nc, c.gate[:]}
	c.In, c.Reply = &c.in, &c.reply
	c.after = c.room[:0]
	return c
}

// Deadline is a time at which reads of a Conn's In that wait end with an
// os.ErrDeadlineExceeded. Each stage that has to do with time has one of its
// own, by [Conn.NewDeadline], and they do not disturb each other: the nearest
// is the connection's. A stage that sees an os.ErrDeadlineExceeded before its
// own time passes it on. It is safe for concurrent use.
type Deadline struct {
	c  *Conn
	at time.Time // zero if it is not among c.deadlines
}

// NewDeadline returns a deadline of c that is not set.
func (c *Conn) NewDeadline() *Deadline { return &Deadline{c: c} }

// SetReadDeadline sets the deadline; the zero time means none. Once the context
// of the connection is cancelled it has no effect, since all I/O has ended then:
// no stage can miss the end by moving its deadline at the wrong moment.
func (d *Deadline) SetReadDeadline(t time.Time) error {
	c := d.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.at.IsZero() != t.IsZero() {
		if t.IsZero() {
			c.deadlines = slices.DeleteFunc(c.deadlines, func(o *Deadline) bool { return o == d })
		} else {
			c.deadlines = append(c.deadlines, d)
		}
	}
	d.at = t
	return c.arm()
}

// arm sets the connection's deadline to the nearest.
func (c *Conn) arm() error {
	if c.stopped != nil {
		return nil
	}
	var nearest time.Time
	for _, d := range c.deadlines {
		if nearest.IsZero() || d.at.Before(nearest) {
			nearest = d.at
		}
	}
	return unlessClosed(c.Net.SetReadDeadline(nearest))
}

// SetWriteDeadline sets the time at which writes to Reply that wait end with an
// os.ErrDeadlineExceeded; the zero time means never. As with a [Deadline], it
// has no effect once the context of the connection is cancelled. It is safe for
// concurrent use.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped != nil {
		return nil
	}
	return unlessClosed(c.Net.SetWriteDeadline(t))
}

// unlessClosed is err from setting a deadline, but nil if the connection is
// closed: the next read or write says so, and In and Reply what it means.
func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// interrupt ends all I/O on c, now and later, with err.
func (c *Conn) interrupt(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped == nil {
		c.stopped = err
	}
	c.Net.SetDeadline(time.Unix(1, 0))
}

func (c *Conn) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// netGate stands nearest to the connection and says what its errors mean.
type netGate Conn

func (*netGate) Allow(max int) (int, error) { return max, nil }

func (g *netGate) Passed(n int, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late || unlessClosed(err) == nil { // and not by the peer
		if stopped := (*Conn)(g).interrupted(); stopped != nil {
			return stopped
		}
	}
	if late {
		return err
	}
	return because(ErrReset, err)
}

// Serve passes nc through h, closes it, and returns what h returned: nil, or
// why the connection ended, as an error for errors.Is. The connection becomes
// Serve's own. number is its [Conn.Number].
//
// When ctx is cancelled, reads and writes on the connection end with
// [ErrShutdown]. What h does otherwise is not interrupted: a sink that is
// committing finishes.
//
// The close tells the peer the truth. It is orderly (FIN) if h returned nil,
// and also after [ErrIdle]: a peer that has not ended its own stream cannot
// take it for success. In every other case the peer could, so the connection is
// reset (RST): also if h panics, from which Serve does not recover (see
// [Recover]), and if the process dies, however it does.
func Serve(ctx context.Context, nc net.Conn, number uint64, h Handler) error {
	c := attach(ctx, nc, number)
	defer c.detach(false)
	err := h.Serve(ctx, c)
	c.detach(err == nil || errors.Is(err, ErrIdle) && !errors.Is(err, ErrStorage))
	return err
}

// attach takes nc over, until detach.
func attach(ctx context.Context, nc net.Conn, number uint64) *Conn {
	setLinger(innermost(nc), 0)
	c := NewConn(nc, number)
	c.stop = context.AfterFunc(ctx, func() { c.interrupt(because(ErrShutdown, context.Cause(ctx))) })
	return c
}

// detach closes the connection, in an orderly way or not, if that has not been
// done.
func (c *Conn) detach(orderly bool) {
	if c.stop == nil {
		return
	}
	c.stop()
	c.stop = nil
	under := innermost(c.Net)
	if orderly {
		setLinger(under, -1)
	} else {
		under.Close() // first, or a layer over it would say goodbye
	}
	c.Net.Close()
}

// setLinger sets what a close of nc, also that by the system when the process
// ends, says to its peer: a reset with 0, an orderly end with -1 (socket(7),
// SO_LINGER). Connections that are not TCP know no reset.
func setLinger(nc net.Conn, sec int) {
	if tcp, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(sec)
	}
}

// innermost is what nc stands on if it is a layer over another connection, as
// that of crypto/tls is, and otherwise nc.
func innermost(nc net.Conn) net.Conn {
	for {
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = layer.NetConn()
	}
}
