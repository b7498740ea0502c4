package send

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/internal/socket"
)

// NewConn returns a connection over nc, which becomes its own, for a layer such as TLS. The
// layer could not continue a write that the Stall of a [Sender] ended.
//
// A write ends with stage.ErrIdle if the server takes no byte for stall (0 or less: no
// limit), and with os.ErrDeadlineExceeded if a deadline passes. Errors of nc are a
// stage.ErrReset. Its close is a reset until the server has confirmed to a Sender over it.
func NewConn(nc net.Conn, stall time.Duration) net.Conn {
	s := socket.New(nc, connectionBroke)
	limitStall(s, stall)
	return &conn{s.Conn(), s, s.NewDeadline(nil)}
}

// limitStall ends writes with stage.ErrIdle if the server takes no byte for limit.
func limitStall(s *socket.Socket, limit time.Duration) {
	if limit > 0 {
		s.NewDeadline(watchStall(s, limit)).SetWrite(time.Now())
	}
}

// watchStall returns the function of a deadline that fails if the server takes no byte for
// limit.
func watchStall(s *socket.Socket, limit time.Duration) func(now time.Time) (time.Time, error) {
	stall := s.NewStall(limit)
	return func(now time.Time) (time.Time, error) {
		next, ok := stall.Look(now)
		if !ok {
			return next, fmt.Errorf("%w: it took no byte for %v", stage.ErrIdle, limit)
		}
		return next, nil
	}
}

// conn is a Socket as a net.Conn.
type conn struct {
	net.Conn // for its addresses and its Close
	socket   *socket.Socket
	deadline *socket.Deadline
}

func (c *conn) NetConn() net.Conn           { return c.Conn }
func (c *conn) Read(p []byte) (int, error)  { return c.socket.Read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.socket.Write(p) }

// CloseWrite ends the stream to the server.
func (c *conn) CloseWrite() error {
	end, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return end.CloseWrite()
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.deadline.SetRead(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.deadline.SetWrite(t)
	return nil
}
