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

// bufferSize is how much a Conn takes that nobody reads.
const bufferSize = 64 << 10

// Conn is one end of a connection. It is safe for concurrent use. Its errors, but for
// io.EOF, are *net.OpError, and for errors.Is what they are of a *net.TCPConn on Linux:
//
//   - os.ErrDeadlineExceeded once a deadline has passed, also if bytes have arrived;
//   - net.ErrClosed after Close;
//   - syscall.ECONNRESET when the peer has reset the connection, once what arrived before
//     is read. It is told once, by Read or Write, and not if the peer had ended its
//     stream before: then, and after it, a Read is at the end, and a Write an EPIPE;
//   - syscall.EPIPE of a Write after CloseWrite.
type Conn struct {
	link          *link
	peer          *Conn
	local, remote net.Addr

	// All that follows is guarded by the link.
	arrived   [][]byte // and not read, each of one Write
	unread    int      // so many bytes
	room      int      // for so many
	ended     bool     // by CloseWrite
	peerEnded bool
	closed    bool
	abrupt    bool  // a Close resets
	reset     bool  // by the peer
	untold    error // the reset, until it has been told
	reading   deadline
	writing   deadline
}

// link is what both ends have in common. changed is broadcast at each change.
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

// Pair returns the two ends of a connection. Their addresses are *net.TCPAddr in a
// network that is for documentation (RFC 5737).
func Pair() (server, client *Conn) { return PairOf(serverAddr, clientAddr) }

// PairOf returns the two ends of a connection between these addresses.
func PairOf(server, client net.Addr) (serverEnd, clientEnd *Conn) {
	l := new(link)
	l.changed.L = &l.mu
	s := &Conn{link: l, local: server, remote: client, room: bufferSize}
	c := &Conn{link: l, local: client, remote: server, room: bufferSize, peer: s}
	s.peer = c
	return s, c
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) failed(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// Read waits until bytes have arrived and returns those of one Write of the peer, as
// many as p has room for.
func (c *Conn) Read(p []byte) (int, error) {
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
		case c.untold != nil:
			return 0, c.tell("read")
		case c.peerEnded || c.reset:
			return 0, io.EOF
		}
		c.link.changed.Wait()
	}
}

// tell tells the reset.
func (c *Conn) tell(op string) error {
	err := c.untold
	c.untold = nil
	return c.failed(op, err)
}

// Write waits until all of p has arrived at the peer, whose buffer has room for 64 KiB
// unless [Conn.SetReadBuffer] has changed that. If the peer has closed, what is written
// is lost, without an error, and has the peer reset the connection.
func (c *Conn) Write(p []byte) (n int, err error) {
	defer c.link.lock()()
	for {
		switch {
		case c.closed:
			return n, c.failed("write", net.ErrClosed)
		case c.writing.passed():
			return n, c.failed("write", os.ErrDeadlineExceeded)
		case n == len(p) && (n > 0 || !c.reset && !c.ended):
			return n, nil
		case c.untold != nil:
			return n, c.tell("write")
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

// breakOff has c find that its peer has reset the connection.
func (c *Conn) breakOff() {
	if c.reset || c.closed {
		return
	}
	c.reset = true
	if !c.peerEnded {
		c.untold = syscall.ECONNRESET
	}
	c.link.changed.Broadcast()
}

// CloseWrite ends the stream of this end: the peer is at its end when it has read all
// that was written. After a reset it is a syscall.ENOTCONN.
func (c *Conn) CloseWrite() error {
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

// SetLinger has a Close reset the connection if sec is 0, and otherwise not, unless
// bytes have arrived that nobody has read.
func (c *Conn) SetLinger(sec int) error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	c.abrupt = sec == 0
	return nil
}

// SetReadBuffer has this end take so many bytes, at least 1, that nobody reads, before
// writes of the peer wait.
func (c *Conn) SetReadBuffer(bytes int) error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	c.room = max(bytes, 1)
	c.link.changed.Broadcast()
	return nil
}

// Close closes this end. The peer sees the end of the stream, or a reset: after
// SetLinger(0), and, as of TCP on Linux, if bytes have arrived that nobody has read
// (RFC 2525, 2.17).
func (c *Conn) Close() error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	c.closed = true
	c.reading.set(c.link, time.Time{})
	c.writing.set(c.link, time.Time{})
	switch {
	case c.reset: // the peer knows
	case c.abrupt || c.unread > 0:
		c.peer.breakOff()
	default:
		c.peer.peerEnded = true
	}
	c.arrived = nil
	c.link.changed.Broadcast()
	return nil
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.reading, &c.writing) }

// SetReadDeadline sets the time from which Read fails; the zero time means never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.reading) }

// SetWriteDeadline sets the time from which Write fails; the zero time means never.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writing) }

func (c *Conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	defer c.link.lock()()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	for _, d := range deadlines {
		d.set(c.link, t)
	}
	return nil
}

// deadline is a time at which those who wait are woken.
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

var _ net.Conn = (*Conn)(nil)
