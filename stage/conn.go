package stage

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Conn is one connection on its way through a chain. A stage may replace In,
// Reply and Out by what it puts in front of them, before it calls the next
// handler; a handler reads from In and writes to Out (payload, to the sink) and
// Reply (to the peer).
//
// A Conn is for the one goroutine that serves it. SetReadDeadline and Counter's
// count may be used by any.
type Conn struct {
	// Net is the connection itself. Stages need it for its addresses; they do
	// not read, write or close it, and move its read deadline by
	// SetReadDeadline only.
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

	mu      sync.Mutex
	stopped error // why I/O was interrupted, or nil
}

// NewConn returns nc, ready to be passed to a chain. It does not take nc over:
// the caller closes it. Most servers call [Serve] instead, which also closes
// the connection as it ought to be, and ends it when its context does.
func NewConn(nc net.Conn, number uint64) *Conn {
	c := &Conn{Net: nc, Number: number, Out: io.Discard}
	c.In = NewReader(nc, (*netGate)(c))
	c.Reply = NewWriter(nc, (*netGate)(c))
	return c
}

// SetReadDeadline sets the time at which reads of In that wait end with an
// os.ErrDeadlineExceeded; the zero time means never. Once the context of the
// connection is cancelled it has no effect: the deadline stays in the past, so
// no stage can miss the end by moving its own deadline at the wrong moment.
//
// Stages that set a deadline see each other's: on an os.ErrDeadlineExceeded a
// stage that finds its own time not yet come sets its deadline again.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped != nil {
		return nil
	}
	return c.Net.SetReadDeadline(t)
}

// interrupt ends all I/O on c, now and later, as being due to cause.
func (c *Conn) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = because(ErrShutdown, cause)
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
	if stopped := (*Conn)(g).interrupted(); stopped != nil {
		return stopped
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
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
func Serve(ctx context.Context, nc net.Conn, number uint64, h Handler) (err error) {
	setLinger(nc, 0)
	c := NewConn(nc, number)
	stop := context.AfterFunc(ctx, func() { c.interrupt(context.Cause(ctx)) })
	err = errUnwinding
	defer func() {
		stop()
		if err == nil || errors.Is(err, ErrIdle) && !errors.Is(err, ErrStorage) {
			setLinger(nc, -1)
		}
		nc.Close()
	}()
	return h.Serve(ctx, c)
}

// setLinger sets what a close of nc, also that by the system when the process
// ends, says to its peer: a reset with 0, an orderly end with -1 (socket(7),
// SO_LINGER). Connections that are not TCP know no reset.
func setLinger(nc net.Conn, sec int) {
	if l, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(sec)
	}
}
