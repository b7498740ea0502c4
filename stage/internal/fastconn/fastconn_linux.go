package fastconn

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/accio-go/accio/internal/netutil"
)

const (
	// fastSize within fastTime is fast: a hundred megabytes a second.
	fastSize = 512 << 10
	fastTime = 5 * time.Millisecond

	// waitSize is how many bytes wake a blocking call, if there is room for so many. More
	// would not stay in the caches of the processor.
	waitSize = 256 << 10

	// blockTime is how long a blocking call waits at most. It cannot be interrupted, and
	// a writer waits for it. So bytes before a pause can be this much late.
	blockTime = 10 * time.Millisecond
)

// blockers counts the connections that are read by blocking calls. Each occupies a
// thread and a processor of the runtime, so at most half of the processors are used.
var blockers atomic.Int32

func maxBlockers() int32 { return int32(runtime.GOMAXPROCS(0) / 2) }

// Conn is a TCP connection. Its methods are safe for concurrent use, with one reader at a
// time.
//
// The poller forgets a descriptor only when it is closed. So a connection leaves the
// poller with a duplicate of its descriptor, and returns to it with the same one.
type Conn struct {
	net.Conn // the first one: only its addresses are used

	// For the reader, which reads the clock once in fastSize bytes.
	left   int64 // bytes until the next look
	looked int64 // when, by netutil.Nanos
	pause  int64 // bytes without a look after the last pause

	writers atomic.Int32 // they keep the connection in the poller
	closed  atomic.Bool

	mu       sync.Mutex
	polled   pollable        // in the poller; closed while fd is open
	raw      syscall.RawConn // of polled
	fd       int             // of the blocking descriptor, or -1
	reading  bool            // a blocking call is under way
	idle     *sync.Cond      // the call has ended
	deadline [2]int64        // for reads and writes, by netutil.Nanos
}

// pollable is a *net.TCPConn or, after a time outside the poller, an *os.File.
type pollable interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// New returns a *Conn over nc, which it takes over, if nc is a *net.TCPConn. It returns
// any other nc as it is.
func New(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, _ := tcp.SyscallConn()
	return &Conn{Conn: nc, polled: tcp, raw: raw, fd: -1}
}

// Read reads from the connection.
func (c *Conn) Read(p []byte) (n int, err error) {
	polled, _ := c.inPoller()
	n, err = polled.Read(p)
	return n, c.explain(err)
}

// Write writes to the connection.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	polled, _ := c.inPoller()
	n, err = polled.Write(p)
	return n, c.explain(err)
}

// Close closes the connection. A blocking call that is under way ends by itself, and then
// closes it.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.fd < 0 {
		return c.polled.Close()
	}
	if !c.reading {
		c.closeBlocking()
	}
	return nil
}

// explain returns net.ErrClosed in place of an error of a closed connection. An os.File
// returns other errors, such as ErrFileClosing in internal/poll, which is no os.ErrClosed.
func (c *Conn) explain(err error) error {
	if err != nil && err != io.EOF && c.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// closeBlocking closes the blocking descriptor. c.mu is held.
func (c *Conn) closeBlocking() {
	syscall.Close(c.fd)
	c.fd = -1
	blockers.Add(-1)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of reads. A blocking call notices it up to blockTime late.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(0, t) }

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(1, t) }

func (c *Conn) setDeadline(direction int, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline[direction] = netutil.Nanos(t)
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case c.fd >= 0:
		return nil
	case direction == 0:
		return c.polled.SetReadDeadline(t)
	}
	return c.polled.SetWriteDeadline(t)
}

// SetLinger is like the SetLinger of a net.TCPConn.
func (c *Conn) SetLinger(sec int) error {
	l := syscall.Linger{Onoff: 1, Linger: int32(sec)}
	if sec < 0 {
		l = syscall.Linger{}
	}
	return c.control("setsockopt", func(fd int) error {
		return syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &l)
	})
}

// CloseWrite ends the stream to the peer.
func (c *Conn) CloseWrite() error {
	return c.control("shutdown", func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_WR) })
}

// control makes a system call with the descriptor.
func (c *Conn) control(name string, call func(fd int) error) (err error) {
	cerr := rawConn{c}.Control(func(fd uintptr) { err = os.NewSyscallError(name, call(int(fd))) })
	return errors.Join(cerr, err)
}

// SyscallConn returns the raw connection, whose Read uses blocking calls while the peer
// sends fast.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }

type rawConn struct{ c *Conn }

// Control calls f with the descriptor.
func (r rawConn) Control(f func(fd uintptr)) error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.closed.Load() {
		return net.ErrClosed
	}
	if r.c.fd >= 0 {
		f(uintptr(r.c.fd))
		return nil
	}
	return r.c.raw.Control(f)
}

// Write calls f until it reports true.
func (r rawConn) Write(f func(fd uintptr) bool) error {
	r.c.writers.Add(1)
	defer r.c.writers.Add(-1)
	_, raw := r.c.inPoller()
	return r.c.explain(raw.Write(f))
}

// Read calls f until it reports true.
func (r rawConn) Read(f func(fd uintptr) bool) error {
	fd, err := r.c.beginCall()
	if err != nil || fd >= 0 && r.c.call(fd, f) {
		return err
	}
	_, raw := r.c.inPoller()
	return r.c.explain(raw.Read(f))
}

// beginCall begins a blocking call and returns its descriptor, or -1 if the poller must
// wait for the connection.
func (c *Conn) beginCall() (fd int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch deadline := c.deadline[0]; {
	case c.fd < 0 || c.writers.Load() > 0:
		return -1, nil
	case deadline != 0 && netutil.Nanos(time.Now()) >= deadline:
		return -1, os.ErrDeadlineExceeded
	}
	c.reading = true
	return c.fd, nil
}

// call makes a blocking call, and returns the connection to the poller if its peer is no
// longer fast. It reports false if no byte has arrived.
func (c *Conn) call(fd int, f func(fd uintptr) bool) (done bool) {
	began := time.Now()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.reading = false
		if c.idle != nil {
			c.idle.Broadcast()
		}
		if c.closed.Load() {
			c.closeBlocking()
		} else if !done || time.Since(began) >= blockTime {
			c.enterPoller()
			// Each pause leaves the peer to the poller for eight times as many bytes.
			c.pause = 8 * min(max(c.pause, fastSize), 1<<40)
			c.left = c.pause
		}
	}()
	return f(uintptr(fd))
}

// inPoller returns the connection to the poller, if it has left it.
func (c *Conn) inPoller() (pollable, syscall.RawConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enterPoller()
	return c.polled, c.raw
}

// enterPoller returns the connection to the poller, if it has left it. It first
// waits for a blocking call under way. c.mu is held.
func (c *Conn) enterPoller() {
	for c.reading {
		if c.idle == nil {
			c.idle = sync.NewCond(&c.mu)
		}
		c.idle.Wait()
	}
	if c.fd < 0 || c.closed.Load() {
		return
	}
	syscall.SetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, 1)
	syscall.SetNonblock(c.fd, true)
	file := os.NewFile(uintptr(c.fd), "connection")
	c.polled = file
	c.raw, _ = file.SyscallConn()
	file.SetReadDeadline(netutil.TimeOf(c.deadline[0]))
	file.SetWriteDeadline(netutil.TimeOf(c.deadline[1]))
	c.fd = -1
	blockers.Add(-1)
}

// leavePoller replaces the polled descriptor by a blocking duplicate. It does nothing if
// too many connections have done so, or while a write is under way.
func (c *Conn) leavePoller() {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := -1
	if blockers.Add(1) <= maxBlockers() && c.fd < 0 && c.writers.Load() == 0 {
		c.raw.Control(func(old uintptr) { fd = blockingDuplicate(int(old)) })
	}
	if fd < 0 {
		blockers.Add(-1)
		return
	}
	c.polled.Close()
	c.fd = fd
	// This thread may have waited in the poller, and is about to block: sysmon in runtime/proc.go
	// would notice after ten milliseconds. A new goroutine makes another thread look for work.
	go func() {}()
}

// blockingDuplicate returns another descriptor of the connection, whose calls block for
// blockTime, or -1.
func blockingDuplicate(old int) int {
	const least = 3 // not 1 or 2, which may be free: os.File raises SIGPIPE on those
	dup, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(old), syscall.F_DUPFD_CLOEXEC, least)
	if errno != 0 {
		return -1
	}
	fd, limit := int(dup), syscall.NsecToTimeval(int64(blockTime))
	if syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit) != nil || syscall.SetNonblock(fd, false) != nil {
		syscall.Close(fd)
		return -1
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, waitSize)
	return fd
}

// Received notes that another n bytes were read by the raw connection.
func (c *Conn) Received(n int) {
	if c.left -= int64(n); c.left > 0 {
		return
	}
	now := netutil.Nanos(time.Now())
	fast := now-c.looked < int64(fastTime)
	c.looked, c.left = now, fastSize
	if fast {
		c.leavePoller()
	}
}
