package stage

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A peer that sends much and quickly is read by calls that block, as a C program would,
// instead of through the runtime's poller. That watches a descriptor at edges (epoll(7)):
// each packet that arrives while a thread moves those before it wakes another thread, for
// nobody, which costs as much as a tenth to a fifth of what it takes to move them.
//
// The poller lets go of a descriptor only when it is closed. So the connection goes on with
// a duplicate of it, and, as soon as its peer pauses for a moment, is slow, or is written to,
// to the poller with that one, which takes no more descriptors. (If the poller has no room for
// another by then, as epoll(7) says of max_user_watches, the next read that would wait is an
// ErrReset.)

// quickSize within quickTime is quick: a hundred megabytes a second, which a network of a gigabit
// brings. Tests have another view of that.
var (
	quickSize int64 = 512 << 10
	quickTime       = 5 * time.Millisecond
)

// blockTime is how long a call waits for the peer, or a tick or two of the kernel's clock
// longer: for so long nobody can interrupt it, and who writes to the peer waits for it.
const blockTime = 10 * time.Millisecond

// waitSize is how much has to come for a call that waits to be woken (SO_RCVLOWAT in
// socket(7)), but for the end, or when its time is over: to be woken for each segment costs
// more than to move it. More would not stay in the processor's caches. Where a buffer cannot
// have room for so much, the kernel takes less (tcp_set_rcvlowat in net/ipv4/tcp.c).
//
// So what a peer has sent before it pauses is held until that time is over. A peer that waits
// for a word meanwhile would pay for that again and again: see pause.
const waitSize = transferSize / 4

// blockers is how many connections have a thread, a processor of the runtime's (until that
// notices that they wait), and a pipe to themselves, until they are back with the poller: also
// while their sinks hang. At most half of the processors and pipes are taken like that.
var blockers atomic.Int32

func maxBlockers() int32 { return int32(min(runtime.GOMAXPROCS(0), maxPipes) / 2) }

// blocking is a connection that is read by calls that block.
type blocking struct {
	fd       int
	waitsFor int // so many bytes, as it is set; for who is busy with it, or has it alone

	// The mu of its Conn guards these.
	busy  bool      // a call is under way
	done  sync.Cond // and is over
	ended bool      // it is closed, or will be by who is busy with it
}

// quick is what a transfer knows of how quick its source is.
type quick struct {
	at    time.Time
	bytes int64 // that had been written then, or after a pause will be, before it is looked at
	held  bool  // the last call has held what it returned, until its time was over
	pause int64 // for how many the last pause was
}

// isQuick reports whether the last quickSize bytes or more have come quickly, the first of
// which it takes for slow. It looks at the clock only so often.
func (t *transfer) isQuick() bool {
	if t.written-t.quick.bytes < quickSize {
		return false
	}
	now := time.Now()
	is := now.Sub(t.quick.at) < quickTime
	t.quick.at, t.quick.bytes = now, t.written
	return is
}

// isSlow reports whether a peer that was quick is not any more: it pauses, or in four times
// quickTime no quickSize has been passed on. That is what calls that wait for waitSize need in
// order not to be late.
func (t *transfer) isSlow(now time.Time) bool {
	if t.quick.held {
		return true
	}
	if now.Sub(t.quick.at) < 4*quickTime {
		return false
	}
	slow := t.written-t.quick.bytes < quickSize
	t.quick.at, t.quick.bytes = now, t.written
	return slow
}

// pause has the poller wait for a peer that has been quick and has not stayed so, for eight
// times as much as the last time: one that goes on like that is soon left to the poller.
func (t *transfer) pause() {
	n := 8 * min(max(t.quick.pause, quickSize), 1<<40)
	t.quick = quick{pause: n, bytes: t.written + n - quickSize}
}

// fillBlocking makes an attempt to take bytes from the connection by a call that blocks. It
// reports false if none was made, or nothing has come: the poller is to wait then.
func (t *transfer) fillBlocking() (bool, error) {
	c := t.conn
	if c == nil || !c.movable {
		return false, nil
	}
	b, raw, err := c.beginCall()
	if b == nil && err == nil {
		if t.raw != raw { // it has blocked, and somebody has written to the peer meanwhile
			t.attachSrc()
			t.pause()
		}
		if !t.isQuick() || !c.block(t.rawSrc) {
			return false, nil
		}
		if b, _, err = c.beginCall(); b == nil && err == nil {
			return false, nil
		}
	}
	if err != nil {
		return true, err
	}
	done, now := false, time.Now()
	if !t.isSlow(now) {
		size := min(waitSize, t.max)
		b.waitFor(size)
		t.blocks = true
		done = t.tryFill(uintptr(b.fd))
		t.blocks = false
		t.quick.held = t.n < size && time.Since(now) >= blockTime
	}
	if c.endCall(b); done {
		return true, nil
	}
	t.attachSrc() // with the poller
	t.pause()
	return false, nil
}

// block takes the connection from the poller, and reports whether that could be.
func (c *Conn) block(rc syscall.RawConn) bool {
	if blockers.Add(1) > maxBlockers() {
		blockers.Add(-1)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := -1
	if c.writers > 0 || rc.Control(func(old uintptr) { fd = blockingDuplicate(old) }) != nil || fd < 0 {
		blockers.Add(-1)
		return false
	}
	c.raw.Close()
	c.blocking = &blocking{fd: fd, waitsFor: 1, done: sync.Cond{L: &c.mu}}
	// This thread may be the one that has waited in the poller, and takes with it, into a call
	// that blocks, the processor with which it left. Nobody would wait there before the
	// runtime's monitor does, ten milliseconds later. A new goroutine has another thread look
	// for work, and that one then waits.
	go func() {}()
	return true
}

// blockingDuplicate returns another descriptor of the connection that fd is one of, on which
// calls block for so long, or -1.
func blockingDuplicate(fd uintptr) int {
	limit := syscall.NsecToTimeval(int64(blockTime))
	if syscall.SetsockoptTimeval(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit) != nil {
		return -1
	}
	// Not one of those that a program which has closed them knows by number: of 1 and 2 the
	// runtime makes a SIGPIPE (os.File.Write).
	const least = 3
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, least)
	if errno != 0 {
		return -1
	}
	if syscall.SetNonblock(int(n), false) != nil {
		syscall.Close(int(n))
		return -1
	}
	return int(n)
}

// beginCall begins a call that blocks, to be ended by endCall. It returns nil, and what raw
// is, if the poller is to wait for the connection, and an error where that would.
func (c *Conn) beginCall() (*blocking, net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.blocking
	switch {
	case b == nil:
		return nil, c.raw, nil
	case b.ended:
		return nil, nil, net.ErrClosed
	case c.stopped != nil, !c.armed.IsZero() && !time.Now().Before(c.armed):
		return nil, nil, os.ErrDeadlineExceeded
	case c.writers > 0: // they wait for the call before to end
		c.rejoin()
		return nil, c.raw, nil
	}
	b.busy = true
	return b, nil, nil
}

func (c *Conn) endCall(b *blocking) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.busy = false
	if c.writers > 0 {
		b.done.Broadcast()
	}
	if b.ended {
		syscall.Close(b.fd)
	}
}

// waitFor has calls wait for so many bytes.
func (b *blocking) waitFor(size int) {
	if b.waitsFor != size {
		syscall.SetsockoptInt(b.fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, size)
		b.waitsFor = size
	}
}

// rejoin has the poller wait for the connection again, if it does not. c.mu is held.
func (c *Conn) rejoin() {
	b := c.blocking
	if b == nil {
		return
	}
	for b.busy {
		b.done.Wait()
	}
	if c.blocking != b {
		return
	}
	c.blocking = nil
	blockers.Add(-1)
	if b.ended {
		return // as is what c.raw is then
	}
	b.waitFor(1)
	syscall.SetNonblock(b.fd, true)
	p := &polled{File: os.NewFile(uintptr(b.fd), "connection"), first: c.first}
	c.raw = p
	if c.stopped != nil {
		p.SetDeadline(time.Unix(1, 0))
		return
	}
	p.SetReadDeadline(c.armed)
	p.SetWriteDeadline(c.nearestWrite())
}

// end closes it, as soon as nobody is busy with it. The mu of its Conn is held.
func (b *blocking) end() {
	if b.ended {
		return
	}
	b.ended = true
	if !b.busy {
		syscall.Close(b.fd)
	}
}

// polled is a TCP connection that is back with the poller, by another descriptor than it
// had. It is the same connection to its peer, so addresses are those of the first.
type polled struct {
	*os.File
	first  net.Conn // closed
	closed atomic.Bool
}

func (p *polled) LocalAddr() net.Addr  { return p.first.LocalAddr() }
func (p *polled) RemoteAddr() net.Addr { return p.first.RemoteAddr() }

func (p *polled) Close() error {
	p.closed.Store(true)
	return p.explain(p.File.Close())
}

func (p *polled) SetDeadline(t time.Time) error      { return p.explain(p.File.SetDeadline(t)) }
func (p *polled) SetReadDeadline(t time.Time) error  { return p.explain(p.File.SetReadDeadline(t)) }
func (p *polled) SetWriteDeadline(t time.Time) error { return p.explain(p.File.SetWriteDeadline(t)) }

// explain has an error that comes of a close say so: that of package os has no name in
// most places.
func (p *polled) explain(err error) error {
	if err != nil && p.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// SyscallConn has the errors of Close explained, too.
func (p *polled) SyscallConn() (syscall.RawConn, error) {
	rc, err := p.File.SyscallConn()
	if err != nil {
		return nil, p.explain(err)
	}
	return rawPolled{rc, p}, nil
}

type rawPolled struct {
	rc syscall.RawConn
	p  *polled
}

func (r rawPolled) Control(f func(fd uintptr)) error    { return r.p.explain(r.rc.Control(f)) }
func (r rawPolled) Read(f func(fd uintptr) bool) error  { return r.p.explain(r.rc.Read(f)) }
func (r rawPolled) Write(f func(fd uintptr) bool) error { return r.p.explain(r.rc.Write(f)) }

// SetLinger does what that of net.TCPConn does.
func (p *polled) SetLinger(sec int) error {
	rc, err := p.SyscallConn()
	if err != nil {
		return err
	}
	var l syscall.Linger
	if sec >= 0 {
		l.Onoff, l.Linger = 1, int32(sec)
	}
	cerr := rc.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &l))
	})
	return errors.Join(cerr, err)
}
