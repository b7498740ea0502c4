package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is how many unread bytes an end takes by default.
const bufferSize = 64 << 10

// Conn is one end of a TCP connection in memory, as a *net.TCPConn on Linux. It is safe
// for concurrent use.
//
// Read returns the bytes of one Write only. Write waits until all bytes are in the peer's
// receive buffer of 64 KiB. If the peer has closed, Write discards the bytes and returns
// nil, and the peer resets the connection. Close resets the connection after
// SetLinger(0), or if received bytes are unread (RFC 2525, 2.17).
//
// All errors except io.EOF are *net.OpError around one of these:
//
//   - os.ErrDeadlineExceeded once a deadline has passed, even if bytes have arrived;
//   - net.ErrClosed after Close;
//   - syscall.ECONNRESET after a reset, once, from Read or Write, after the bytes that
//     arrived before. Later, or if the peer had ended its stream, Read returns io.EOF
//     and Write EPIPE;
//   - syscall.EPIPE from Write after CloseWrite;
//   - syscall.ENOTCONN from CloseWrite after a reset.
type Conn interface {
	net.Conn

	// CloseWrite ends the stream to the peer, which can still write.
	CloseWrite() error

	// SetLinger makes Close reset the connection if sec is 0.
	SetLinger(sec int) error

	// SetReadBuffer sets the size of the receive buffer in bytes, at least 1.
	SetReadBuffer(bytes int) error
}

// conn is a [Conn]. The mutex of the link guards the fields from arrived on.
type conn struct {
	link          *link
	peer          *conn
	local, remote net.Addr

	arrived   [][]byte // unread, one element per Write
	unread    int      // bytes in arrived
	room      int      // size of the receive buffer
	ended     bool     // CloseWrite was called
	peerEnded bool
	closed    bool
	abrupt    bool  // Close resets
	reset     bool  // by the peer
	resetErr  error // until Read or Write has returned it
	reading   deadline
	writing   deadline
}

// link is the state that both ends share. Every change broadcasts changed.
type link struct {
	mu      sync.Mutex
	changed sync.Cond
}

func (l *link) lock() func() {
	l.mu.Lock()
	return l.mu.Unlock
}

var (
	serverAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5000"))
	clientAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.2:49152"))
)

// Pair returns the two ends of a connection. Their addresses are *net.TCPAddr in the
// networks for documentation (RFC 5737).
func Pair() (server, client Conn) { return PairOf(serverAddr, clientAddr) }

// PairOf returns the two ends of a connection between these addresses.
func PairOf(server, client net.Addr) (serverEnd, clientEnd Conn) { return pair(server, client) }

func pair(server, client net.Addr) (*conn, *conn) {
	l := new(link)
	l.changed.L = &l.mu
	s := &conn{link: l, local: server, remote: client, room: bufferSize}
	c := &conn{link: l, local: client, remote: server, room: bufferSize, peer: s}
	s.peer = c
	return s, c
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) failed(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

func (c *conn) Read(p []byte) (int, error) {
	defer c.link.lock()()
	for {
		switch {
		case c.closed:
			return 0, c.failed("read", net.ErrClosed)
		case c.reading.passed():
			return 0, c.failed("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case len(c.arrived) > 0:
			n := copy(p, c.arrived[0])
			if c.arrived[0] = c.arrived[0][n:]; len(c.arrived[0]) == 0 {
				c.arrived = c.arrived[1:]
			}
			c.unread -= n
			c.link.changed.Broadcast()
			return n, nil
		case c.resetErr != nil:
			return 0, c.reportReset("read")
		case c.peerEnded || c.reset:
			return 0, io.EOF
		}
		c.link.changed.Wait()
	}
}

// reportReset returns the reset as the error of op, once.
func (c *conn) reportReset(op string) error {
	err := c.resetErr
	c.resetErr = nil
	return c.failed(op, err)
}

func (c *conn) Write(p []byte) (n int, err error) {
	defer c.link.lock()()
	for {
		switch {
		case c.closed:
			return n, c.failed("write", net.ErrClosed)
		case c.writing.passed():
			return n, c.failed("write", os.ErrDeadlineExceeded)
		case n == len(p) && (n > 0 || !c.reset && !c.ended):
			return n, nil
		case c.resetErr != nil:
			return n, c.reportReset("write")
		case c.reset || c.ended:
			return n, c.failed("write", syscall.EPIPE)
		case c.peer.closed:
			c.breakOff()
			return len(p), nil
		}
		if piece := p[n:min(len(p), n+c.peer.room-c.peer.unread)]; len(piece) > 0 {
			c.peer.arrived = append(c.peer.arrived, append([]byte(nil), piece...))
			c.peer.unread += len(piece)
			n += len(piece)
			c.link.changed.Broadcast()
			continue
		}
		c.link.changed.Wait()
	}
}

// breakOff makes c see a reset by its peer.
func (c *conn) breakOff() {
	if c.reset || c.closed {
		return
	}
	c.reset = true
	if !c.peerEnded {
		c.resetErr = syscall.ECONNRESET
	}
	c.link.changed.Broadcast()
}

func (c *conn) CloseWrite() error {
	defer c.link.lock()()
	switch {
	case c.closed:
		return c.failed("close", net.ErrClosed)
	case c.reset:
		return c.failed("shutdown", syscall.ENOTCONN)
	}
	c.ended, c.peer.peerEnded = true, true
	c.link.changed.Broadcast()
	return nil
}

func (c *conn) SetLinger(sec int) error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	c.abrupt = sec == 0
	return nil
}

func (c *conn) SetReadBuffer(bytes int) error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	c.room = max(bytes, 1)
	c.link.changed.Broadcast()
	return nil
}

func (c *conn) Close() error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	c.closed = true
	c.reading.set(c.link, time.Time{})
	c.writing.set(c.link, time.Time{})
	switch {
	case c.reset: // by the peer itself
	case c.abrupt || c.unread > 0:
		c.peer.breakOff()
	default:
		c.peer.peerEnded = true
	}
	c.arrived = nil
	c.link.changed.Broadcast()
	return nil
}

func (c *conn) SetDeadline(t time.Time) error      { return c.setDeadlines(t, &c.reading, &c.writing) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(t, &c.reading) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writing) }

func (c *conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	for _, d := range deadlines {
		d.set(c.link, t)
	}
	return nil
}

// deadline wakes all waiting calls at a time.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(l *link, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			defer l.lock()()
			l.changed.Broadcast()
		})
	}
	l.changed.Broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
