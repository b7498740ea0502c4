package stage

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// kernel is what a transfer needs to have bytes moved by the kernel.
//
// Each wait for the connection, but for the short ones of a few (see blocking), happens
// inside rawSrc.Read, in the runtime's poller and under the connection's read deadline, with
// nothing held: the buffer or the pipe is taken for one attempt and given back if there is
// nothing to read. So a connection that waits holds its own descriptor and no
// memory, and what goes wrong on the way in cannot be mistaken for what goes
// wrong on the way out.
type kernel struct {
	rawSrc  syscall.RawConn // the connection or file, or nil if Read is all there is
	conn    *Conn           // whose connection src is, or nil
	raw     net.Conn        // and what that has as raw
	tcp     bool            // it is a TCP connection
	file    bool            // it is a file, where all there is has come already
	quick   quick
	blocks  bool            // a call waits for what comes, for blockTime
	rawDst  syscall.RawConn // the file or connection behind dst, or nil
	reply   *Conn           // whose connection dst is, which it may not leave meanwhile, or nil
	socket  bool            // it is a connection
	splices bool            // from rawSrc to rawDst
	flows   bool            // the last attempt found so much that to splice pays
	discard bool

	pipe *pipe // holds bytes between fill and flush, or nil

	calls
	// Their arguments and results.
	max, n int
	err    error
	bytes  []byte // for send
	sock   int    // for sendSome
}

// calls are methods of a transfer as functions: made once, since a closure per call
// would be an allocation per call.
type calls struct {
	attempt, drain, send, sendFull func(fd uintptr) bool
	sendSome                       func(fd uintptr)
}

func (k *kernel) init(t *transfer) {
	k.calls = calls{t.tryFill, t.tryDrain, t.trySend, t.trySendFile, t.sendFrom}
}

// detach forgets both ends.
func (k *kernel) detach() {
	if k.reply != nil {
		k.reply.endWrite()
	}
	if k.conn != nil {
		k.conn.unblock()
	}
	*k = kernel{calls: k.calls}
}

func (t *transfer) attachSrc() {
	// Only these very types: a type that embeds one of them may have a Read of
	// its own, which its promoted SyscallConn would go round.
	var sc syscall.Conn
	src := any(t.src)
	if s, ok := src.(*socket); ok {
		t.conn = (*Conn)(s)
		t.raw = t.conn.unblock()
		src = t.raw
	}
	switch src := src.(type) {
	case *net.TCPConn:
		sc, t.tcp = src, true
	case *polled:
		sc, t.tcp = src, true
	case *net.UnixConn:
		if !isStream(src) {
			return
		}
		sc = src
	case *os.File:
		// What is no regular file may have to be waited for, which is better
		// left to its Read.
		if fi, err := src.Stat(); err != nil || !fi.Mode().IsRegular() {
			return
		}
		sc, t.file = src, true
	default:
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	t.rawSrc, t.flows = rc, true
}

func (t *transfer) attachDst() {
	t.rawDst, t.socket, t.splices, t.discard = nil, false, false, false
	var sc syscall.Conn
	dst := any(t.dst)
	if s, ok := dst.(*socket); ok {
		if t.reply == nil {
			t.reply = (*Conn)(s)
			t.reply.beginWrite()
		}
		dst = t.reply.unblock()
	}
	switch dst := dst.(type) {
	case *os.File:
		sc = dst
	case Filer:
		sc = dst.File()
	case *net.TCPConn:
		sc, t.socket = dst, true
	case *polled:
		sc, t.socket = dst, true
	case *net.UnixConn:
		if !isStream(dst) {
			return
		}
		sc, t.socket = dst, true
	default:
		// MSG_TRUNC drops bytes on TCP only (tcp(7)).
		t.discard = t.tcp && dst == any(io.Discard)
		return
	}
	if rc, err := sc.SyscallConn(); err == nil {
		t.rawDst, t.splices = rc, t.rawSrc != nil
	}
}

// isStream tells a stream from packets: those have bounds, which splice would
// not keep, and an empty one is not the end.
func isStream(c *net.UnixConn) bool { return c.LocalAddr().Network() == "unix" }

// fillKernel takes up to max bytes from src, and leaves them in t.buf or in the
// kernel.
func (t *transfer) fillKernel(max int) (int, error) {
	t.max = max
	tried, err := t.fillBlocking()
	if !tried {
		err = t.rawSrc.Read(t.attempt)
	}
	if err != nil {
		return 0, err
	}
	if t.n == 0 && t.err == nil {
		return 0, io.EOF
	}
	t.flows = t.n >= flowSize || t.file
	return t.n, t.err
}

// flowSize is how much must have come at once for the next to be spliced: less is
// cheaper to copy, and the end of a stream cheaper to find.
const flowSize = 4 << 10

// tryFill makes one attempt to take bytes from the connection, and reports
// false if it has none yet, or none has come in the time of a call that blocks.
func (t *transfer) tryFill(fd uintptr) bool {
	blind := 0 // how often splice has not seen what there was
	for {
		var op string
		switch {
		case t.discard:
			op = "recvfrom"
			t.n, _, t.err = syscall.Recvfrom(int(fd), dropped[:t.max], syscall.MSG_TRUNC)
		case t.splices && t.flows && blind < 2 && t.takePipe():
			op = "splice"
			t.n, t.err = splice(int(fd), t.pipe.w, t.max)
		default:
			op = "read"
			t.take()
			t.n, t.err = syscall.Read(int(fd), (*t.buf)[:min(t.max, len(*t.buf))])
		}
		if t.err == nil && t.n > 0 {
			if t.pipe != nil {
				t.pipe.held = t.n
			}
			return true
		}
		t.n = 0
		t.end()
		if op == "splice" && t.tcp && (t.err == nil || t.err == syscall.EAGAIN) {
			// splice does not get past urgent data (MSG_OOB), and takes it for
			// the end of the stream if nothing else is left; read does get past
			// it. But it may also be that something has just come.
			var n int
			if n, t.err = peek(fd); n > 0 {
				blind++
				continue
			}
		}
		switch {
		case t.err == syscall.EAGAIN, t.err == syscall.EINTR && t.blocks:
			return false // a signal each moment would have the call wait for ever
		case t.err == syscall.EINTR:
		case t.err == syscall.EINVAL && op == "splice":
			t.splices = false // not between these two: by the buffer, then
		default:
			t.err = os.NewSyscallError(op, t.err)
			return true
		}
	}
}

// peek tells what read would find: bytes, the end, or an error, which is for the
// caller to tell of, since a socket has each but once.
func peek(fd uintptr) (int, error) {
	n, _, err := syscall.Recvfrom(int(fd), dropped[:1], syscall.MSG_PEEK|syscall.MSG_TRUNC|syscall.MSG_DONTWAIT)
	return n, err
}

// dropped is where bytes would be put that are not: it is never written to, and
// so takes no memory.
var dropped [transferSize]byte

// sendFile sends a file to a connection by sendfile(2), which takes no pipe and half
// the calls. It reports false if that is not what src and dst are, or if the kernel
// will not go on so: what is not the connection's error is left to the other way to
// meet again, and to tell of.
func (t *transfer) sendFile() (bool, error) {
	if !t.file || !t.socket {
		return false, nil
	}
	for {
		max, err := t.in.allow(sendSize)
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		if t.max, err = t.out.allow(max); err != nil {
			return true, err
		}
		t.n, t.err = 0, nil
		failed := t.rawDst.Write(t.sendFull)
		if isBroken(t.err) {
			failed = os.NewSyscallError("sendfile", t.err)
		} else if t.err != nil || failed != nil && !errors.Is(failed, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if failed != nil {
			if err := t.passed(0, failed); err != nil {
				return true, err
			}
			continue
		}
		if t.n == 0 {
			err = io.EOF
		}
		err = t.in.passed(t.n, err)
		if t.n > 0 {
			if err := t.passed(t.n, nil); err != nil {
				return true, err
			}
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return true, err
		}
	}
}

// sendSize bounds one sendfile, which the kernel is the quicker at the more it is
// asked for: at 1 MiB it takes a tenth more of the processor, at 64 KiB a half. What
// an error that comes after a part was sent is, nobody learns
// (splice_direct_to_actor in fs/splice.c): a reset in the midst of a call is an end
// then, to whoever asks next.
const sendSize = 4 << 20

// isBroken reports whether err, from sendfile, is that of a connection. A
// connection tells of its end but once.
func isBroken(err error) bool {
	switch err {
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
		syscall.ECONNABORTED, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.ENOTCONN, syscall.EPROTO:
		return true
	}
	return false
}

// trySendFile makes one attempt to send something of the file, and reports false
// if the connection has no room.
func (t *transfer) trySendFile(fd uintptr) bool {
	t.sock = int(fd)
	if err := t.rawSrc.Control(t.sendSome); err != nil {
		t.err = err
	}
	if t.err == syscall.EAGAIN {
		t.err = nil
		return false
	}
	return true
}

func (t *transfer) sendFrom(fd uintptr) {
	for {
		t.n, t.err = syscall.Sendfile(t.sock, int(fd), nil, t.max)
		if t.err != nil {
			t.n = 0
		}
		if t.err != syscall.EINTR {
			return
		}
	}
}

func (t *transfer) flushKernel(n int) (error, bool) {
	for t.discard {
		max, err := t.out.allow(n)
		if err == nil {
			err = t.passed(max, nil)
		}
		if n -= max; err != nil || n == 0 {
			return err, true
		}
	}
	if t.pipe == nil {
		if t.rawSrc == nil {
			return nil, false
		}
		defer t.release()
		return t.write((*t.buf)[:n]), true
	}
	defer t.endKernel()
	for t.pipe.held > 0 {
		max, err := t.out.allow(t.pipe.held)
		if err != nil {
			return err, true
		}
		t.max, t.n, t.err = max, 0, nil
		err = t.rawDst.Write(t.drain)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !late || t.err == syscall.EINVAL {
			// The file cannot be spliced to: it is open for appending, or its
			// filesystem does not know how (splice(2)), or it would block and
			// cannot be waited for. Or it is closed, which Write says best.
			return t.flushPipe(), true
		}
		if !late && t.err != nil {
			t.n, err = 0, os.NewSyscallError("splice", t.err)
		}
		t.pipe.held -= t.n
		if err := t.passed(t.n, err); err != nil {
			return err, true
		}
	}
	return nil, true
}

// tryDrain makes one attempt to move what the pipe holds to the file or
// connection, and reports false if that would block.
func (t *transfer) tryDrain(fd uintptr) bool {
	for {
		t.n, t.err = splice(t.pipe.r, int(fd), t.max)
		switch {
		case t.err == syscall.EINTR:
		case t.err == syscall.EAGAIN:
			t.n, t.err = 0, nil
			return false
		case t.err == nil && t.n == 0:
			t.err = io.ErrShortWrite
			return true
		default:
			return true
		}
	}
}

// push writes b to dst, or the first part of it for which a connection has room:
// a gate before it is to know when the peer took something, and not only when it
// took all.
func (t *transfer) push(b []byte) (int, error) {
	if !t.socket {
		return writeAll(t.dst, b)
	}
	t.bytes, t.n, t.err = b, 0, nil
	err := t.rawDst.Write(t.send)
	if err == nil {
		err = os.NewSyscallError("write", t.err)
	}
	return max(t.n, 0), err
}

// trySend makes one attempt to write to the connection, and reports false if
// that would block.
func (t *transfer) trySend(fd uintptr) bool {
	for {
		t.n, t.err = syscall.Write(int(fd), t.bytes)
		switch t.err {
		case syscall.EINTR:
		case syscall.EAGAIN:
			t.n, t.err = 0, nil
			return false
		default:
			return true
		}
	}
}

// flushPipe writes what the pipe holds to dst through a buffer, and keeps the
// transfer from using a pipe again.
func (t *transfer) flushPipe() error {
	t.splices = false
	t.take()
	defer t.release()
	for t.pipe.held > 0 {
		n, err := syscall.Read(t.pipe.r, (*t.buf)[:min(t.pipe.held, len(*t.buf))])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("read from pipe", err)
		}
		t.pipe.held -= n
		if err := t.write((*t.buf)[:n]); err != nil {
			return err
		}
	}
	return nil
}

// Flags of splice(2), which package syscall lacks.
const (
	spliceMove     = 0x1
	spliceNonblock = 0x2
)

func splice(from, to, max int) (int, error) {
	n, err := syscall.Splice(from, nil, to, nil, max, spliceMove|spliceNonblock)
	return int(n), err
}

// pipe is what splice(2) needs between a socket and a file. It is empty
// whenever nobody holds it.
type pipe struct {
	r, w int
	held int // bytes in it
}

// maxPipes bounds the pipes of the process, and so the descriptors that Copy
// takes beside those of the connections and files themselves: twice this many.
// They are held only while bytes move, so a few serve any number of
// connections; when all are in use, or none can be had for want of descriptors,
// a transfer goes through a buffer.
const maxPipes = 8

var pipes struct {
	sync.Mutex
	free  []*pipe
	alive int
}

func (t *transfer) takePipe() bool {
	pipes.Lock()
	defer pipes.Unlock()
	if n := len(pipes.free); n > 0 {
		t.pipe, pipes.free = pipes.free[n-1], pipes.free[:n-1]
		return true
	}
	if pipes.alive == maxPipes {
		return false
	}
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		return false
	}
	// An unprivileged user may be refused the larger size (pipe(7),
	// pipe-user-pages-soft); the pipe works as it is then.
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), syscall.F_SETPIPE_SZ, transferSize)
	pipes.alive++
	t.pipe = &pipe{r: fds[0], w: fds[1]}
	return true
}

// endKernel gives the pipe back, or closes it if bytes are left in it.
func (t *transfer) endKernel() {
	p := t.pipe
	if p == nil {
		return
	}
	t.pipe = nil
	pipes.Lock()
	defer pipes.Unlock()
	if p.held == 0 {
		pipes.free = append(pipes.free, p)
		return
	}
	syscall.Close(p.r)
	syscall.Close(p.w)
	pipes.alive--
}
