package chain

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// wire is a connection in memory that does as TCP's do, where net.Pipe does not: what
// is sent waits until it is read, one side can end its stream and go on reading, and
// there are resets. Whoever waits at it waits as testing/synctest has it.
type wire struct {
	mu      sync.Mutex
	changed sync.Cond
	ends    [2]end
}

// end is one end of a wire. It is the net.Conn of a server.
type end struct {
	w        *wire
	other    *end
	received []byte
	over     bool // the other has ended its stream
	broken   bool // the other, or this one, has reset the connection
	closed   bool
	abortive bool      // a close is to be a reset
	deadline time.Time // of reads
	timer    *time.Timer
}

func newWire() (server, client *end) {
	w := new(wire)
	w.changed.L = &w.mu
	w.ends[0] = end{w: w, other: &w.ends[1]}
	w.ends[1] = end{w: w, other: &w.ends[0]}
	return &w.ends[0], &w.ends[1]
}

func (e *end) Read(p []byte) (int, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	for {
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case !e.deadline.IsZero() && !time.Now().Before(e.deadline):
			return 0, os.ErrDeadlineExceeded
		case e.broken:
			return 0, syscall.ECONNRESET
		case len(e.received) > 0:
			n := copy(p, e.received)
			e.received = e.received[n:]
			return n, nil
		case e.over:
			return 0, io.EOF
		}
		e.w.changed.Wait()
	}
}

func (e *end) Write(p []byte) (int, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case e.broken:
		return 0, syscall.ECONNRESET
	}
	e.other.received = append(e.other.received, p...)
	e.w.changed.Broadcast()
	return len(p), nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.deadline = t; !t.IsZero() {
		e.timer = time.AfterFunc(time.Until(t), func() {
			e.w.mu.Lock()
			defer e.w.mu.Unlock()
			e.w.changed.Broadcast()
		})
	}
	return nil
}

// Writes never wait.
func (e *end) SetWriteDeadline(time.Time) error { return nil }
func (e *end) SetDeadline(t time.Time) error    { return e.SetReadDeadline(t) }

// SetLinger says what a close is to be, as that of a net.TCPConn.
func (e *end) SetLinger(sec int) error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.abortive = sec == 0
	return nil
}

// Close resets the connection also if not all was read, as Linux does.
func (e *end) Close() error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.closed = true
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.abortive || len(e.received) > 0 {
		e.other.broken = true
	}
	e.other.over = true
	e.w.changed.Broadcast()
	return nil
}

// halfClose ends the stream.
func (e *end) halfClose() {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.other.over = true
	e.w.changed.Broadcast()
}

// reset resets the connection.
func (e *end) reset() {
	e.SetLinger(0)
	e.Close()
}

// heard is what has come so far, and how the other side has ended its own: "", "FIN" or
// "RST".
func (e *end) heard() (words, ended string) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	switch {
	case e.broken:
		ended = "RST"
	case e.over:
		ended = "FIN"
	}
	return string(e.received), ended
}

func (e *end) LocalAddr() net.Addr  { return address{} }
func (e *end) RemoteAddr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "wire" }
func (address) String() string  { return "wire" }

var _ net.Conn = (*end)(nil)
