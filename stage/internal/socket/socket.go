// Package socket is one network connection under a chain of stages: its reads and
// writes, its deadlines, its interruption and its close.
//
// Deadlines expire here and nowhere else. A read or write whose deadline has passed asks
// the owner of that deadline, which returns a later time or the error that ends the
// call. So no caller ever sees a temporary error.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/internal/netutil"
	"github.com/accio-go/accio/stage/internal/fastconn"
)

// Socket is one connection. One goroutine at a time reads, and one writes. All other
// methods are safe for concurrent use.
type Socket struct {
	nc     net.Conn
	file   Descriptor        // none where the kernel must not move bytes past nc
	broken func(error) error // adds the cause to an error of nc
	moved  atomic.Int64      // when a write last moved bytes, at first when s was made

	mu        sync.Mutex
	stopped   error     // why I/O was interrupted, or nil
	deadlines *Deadline // those that are set
	released  bool      // nothing may interrupt I/O any longer
	tcp       bool      // file belongs to a TCP connection
	reads     direction
	writes    direction
}

// New returns a Socket over nc, whose close is a reset until [Socket.Release]. Errors of
// nc pass through broken, other than io.EOF and an expired deadline.
func New(nc net.Conn, broken func(error) error) *Socket {
	netutil.SetLinger(nc, 0)
	nc = fastconn.New(nc)
	s := &Socket{nc: nc, broken: broken}
	s.moved.Store(netutil.Nanos(time.Now()))
	s.file.Raw, s.tcp = rawConn(nc)
	return s
}

// Conn returns the connection, for its addresses and for a layer over it. Its reads,
// writes and deadlines belong to the Socket.
func (s *Socket) Conn() net.Conn { return s.nc }

// IsTCP reports whether [Socket.ReadRaw] reads a TCP connection of the system.
func (s *Socket) IsTCP() bool { return s.tcp }

// HasDescriptor reports whether ReadRaw and WriteRaw may be called.
func (s *Socket) HasDescriptor() bool { return s.file.Raw != nil }

// Read reads from the connection.
func (s *Socket) Read(p []byte) (int, error) {
	if err := s.begin(&s.reads); err != nil {
		return 0, err
	}
	for {
		n, err := s.nc.Read(p)
		if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil // the next call finds it
		}
		if err = s.end(&s.reads, n, err); err != errAgain {
			return n, err
		}
	}
}

// Write writes all of p.
func (s *Socket) Write(p []byte) (n int, err error) {
	if err := s.begin(&s.writes); err != nil {
		return 0, err
	}
	for {
		m, err := s.nc.Write(p[n:])
		n += m
		if err = s.end(&s.writes, m, err); err != errAgain {
			return n, err
		}
	}
}

// ReadRaw makes c with the descriptor until its Op returns another error than EAGAIN, and
// returns the results. In between it waits until there is something to read.
func (s *Socket) ReadRaw(c *Call) (int, error) {
	if err := s.begin(&s.reads); err != nil {
		return 0, err
	}
	for {
		n, err := s.file.ReadRaw(c)
		if meter, ok := s.nc.(interface{ Received(n int) }); ok {
			meter.Received(n)
		}
		if err = s.end(&s.reads, n, err); err != errAgain {
			return n, err
		}
	}
}

// WriteRaw is like ReadRaw, for writes.
func (s *Socket) WriteRaw(c *Call) (int, error) {
	if err := s.begin(&s.writes); err != nil {
		return 0, err
	}
	for {
		n, err := s.file.WriteRaw(c)
		if err = s.end(&s.writes, n, err); err != errAgain {
			return n, err
		}
	}
}

// Interrupt ends all reads and writes with err, those under way and all later ones. The
// first Interrupt decides the error.
func (s *Socket) Interrupt(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil && !s.released {
		s.stop(err)
		s.nc.SetDeadline(time.Unix(1, 0))
	}
}

// stop makes later reads and writes end with err. s.mu is held.
func (s *Socket) stop(err error) {
	s.stopped = err
	for _, d := range []*direction{&s.reads, &s.writes} {
		d.armed.Store(past)
		d.set.Store(past)
	}
}

// Interrupted returns the error of the first Interrupt, or nil.
func (s *Socket) Interrupted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// Release makes a later close orderly, and undoes an interruption: a layer may
// still have to confirm success to its peer.
func (s *Socket) Release() {
	netutil.SetLinger(s.nc, -1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped, s.released = nil, true
	s.arm(&s.reads)
	s.arm(&s.writes)
}

// Close closes the connection, in an orderly way after [Socket.Release].
func (s *Socket) Close() { s.nc.Close() }

// Reset closes the connection by a reset, unless it was released. If it is itself a layer, it
// says no goodbye, and neither does a layer over it that is closed afterwards.
func (s *Socket) Reset() {
	netutil.Innermost(s.nc).Close()
	s.nc.Close()
}

// isClosed reports whether err says that this side has closed the connection.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
