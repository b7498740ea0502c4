package stage

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/accio-go/accio/stage/internal/socket"
	"github.com/accio-go/accio/stage/internal/splice"
)

// kernel is the part of a transfer that has the kernel move bytes.
//
// A transfer takes the buffer or the pipe for one attempt to read, and gives it back if
// there is nothing to read. So a connection that waits for its client holds no memory, and
// an error on the way in cannot be mistaken for one on the way out.
type kernel struct {
	from     reader // the connection or file behind src, or nil: only Read reads it
	to       writer // the file or connection behind dst, or nil
	tcp      bool   // src is a TCP connection
	file     bool   // src is a regular file, which never blocks
	socket   bool   // dst is a connection
	splices  bool   // the kernel can splice from src to dst
	flows    bool   // the last read brought so much that it pays to splice the next
	discards bool   // dst is io.Discard

	pipe  splice.Pipe  // taken from fill to flush
	limit int          // of the call under way
	move  *socket.Call // of tryMove
}

type reader interface {
	ReadRaw(c *socket.Call) (int, error)
}

type writer interface {
	WriteRaw(c *socket.Call) (int, error)
}

func (t *transfer) initKernel() { t.move = socket.NewCall(t.tryMove) }

// freeKernel gives the pipe back and forgets both ends.
func (t *transfer) freeKernel() {
	t.pipe.Free()
	t.kernel = kernel{move: t.move}
}

func (t *transfer) kernelReads() bool { return t.from != nil }

// attachSource finds out how the kernel can read src. It accepts exactly these types: a
// type that embeds one of them may have its own Read, which its SyscallConn would bypass.
func (t *transfer) attachSource() {
	t.from, t.tcp, t.file, t.flows = nil, false, false, true
	var file syscall.Conn
	switch src := t.src.(type) {
	case *socket.Socket:
		if src.HasDescriptor() {
			t.from, t.tcp = src, src.IsTCP()
		}
		return
	case *net.TCPConn:
		file, t.tcp = src, true
	case *net.UnixConn:
		if !socket.IsStream(src) {
			return
		}
		file = src
	case *os.File:
		// Other files, such as terminals, may block: Read waits for them best.
		if fi, err := src.Stat(); err != nil || !fi.Mode().IsRegular() {
			return
		}
		file, t.file = src, true
	default:
		return
	}
	if raw, err := file.SyscallConn(); err == nil {
		t.from = socket.Descriptor{Raw: raw}
	}
}

// attachSink finds out how the kernel can write to dst.
func (t *transfer) attachSink() {
	t.to, t.socket, t.splices, t.discards = nil, false, false, false
	var file syscall.Conn
	switch dst := t.dst.(type) {
	case *socket.Socket:
		if dst.HasDescriptor() {
			t.to, t.socket, t.splices = dst, true, true
		}
		return
	case *os.File:
		file = dst
	case Filer:
		file = dst.File()
	case *net.TCPConn:
		file, t.socket = dst, true
	case *net.UnixConn:
		if !socket.IsStream(dst) {
			return
		}
		file, t.socket = dst, true
	default:
		// MSG_TRUNC drops bytes on TCP only (tcp(7)).
		t.discards = t.tcp && dst == any(io.Discard)
		return
	}
	if raw, err := file.SyscallConn(); err == nil {
		t.to, t.splices = socket.Descriptor{Raw: raw}, true
	}
}

// fillKernel takes up to max bytes from src into t.buf or the pipe, or drops them.
func (t *transfer) fillKernel(max int) (int, error) {
	t.limit = max
	n, err := t.from.ReadRaw(t.move)
	t.flows = n >= smallSize || t.file
	return n, err
}

// tryMove makes one attempt to drain the pipe, or else to fill it or the buffer.
func (t *transfer) tryMove(fd int) (int, error) {
	if t.pipe.Held() > 0 {
		return t.pipe.Drain(fd, t.limit)
	}
	return t.tryFill(fd)
}

// tryFill makes one attempt. It reads less than smallSize at a time into a buffer: that
// costs less than splice, and finds the end of the stream sooner.
func (t *transfer) tryFill(fd int) (n int, err error) {
	switch {
	case t.discards:
		return splice.Discard(fd, t.limit)
	case t.splices && t.flows && t.pipe.Take():
		n, err := t.pipe.Fill(fd, t.limit)
		switch {
		case n > 0:
			return n, nil
		case isRefused(err):
			t.splices = false
		case !t.tcp || err != io.EOF && err != syscall.EAGAIN:
			t.pipe.Free()
			return 0, err
		default:
			// splice(2) does not see urgent data (MSG_OOB), and takes it for the end of the
			// stream. Read does.
			if more, err := splice.Peek(fd); !more {
				t.pipe.Free()
				return 0, err
			}
		}
		t.pipe.Free()
	}
	t.take()
	n, err = splice.Read(fd, (*t.buf)[:min(t.limit, len(*t.buf))])
	if n == 0 {
		t.release()
	}
	return n, err
}

// isRefused reports whether the kernel, or a filter of system calls, refuses the call for
// these descriptors.
func isRefused(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) ||
		errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP)
}

// flushKernel writes the n bytes that fillKernel has taken.
func (t *transfer) flushKernel(n int) error {
	switch {
	case t.discards:
		return t.discarded(n)
	case t.pipe.Held() > 0:
		defer t.pipe.Free()
		return t.flushPipe()
	}
	defer t.release()
	return t.write((*t.buf)[:n])
}

// discarded reports to the gates that n bytes were dropped.
func (t *transfer) discarded(n int) error {
	for n > 0 {
		max, err := t.out.allow(n)
		if err != nil {
			return err
		}
		if err := t.passed(max, nil); err != nil {
			return err
		}
		n -= max
	}
	return nil
}

// flushPipe moves the bytes in the pipe to dst.
func (t *transfer) flushPipe() error {
	for t.pipe.Held() > 0 {
		max, err := t.out.allow(t.pipe.Held())
		if err != nil {
			return err
		}
		t.limit = max
		n, err := t.to.WriteRaw(t.move)
		if err != nil && n == 0 && (!t.socket || isRefused(err)) {
			// The file may be open for appending, or on a filesystem that cannot splice
			// (splice(2)). Any other error of a file comes again from Write.
			return t.writePipe()
		}
		if err := t.passed(n, err); err != nil {
			return err
		}
	}
	return nil
}

// writePipe writes the bytes in the pipe through a buffer, and makes t splice no more.
func (t *transfer) writePipe() error {
	t.splices = false
	t.take()
	defer t.release()
	for t.pipe.Held() > 0 {
		n, err := t.pipe.Read(*t.buf)
		if err != nil {
			return err
		}
		if err := t.write((*t.buf)[:n]); err != nil {
			return err
		}
	}
	return nil
}

// sendSize bounds one sendfile: 1 MiB takes a tenth more processor time, 64 KiB half as much
// again. The kernel drops an error after a part was sent (splice_direct_to_actor in
// fs/splice.c). So after a reset in the middle of a call, the next call sees an end.
const sendSize = 4 << 20

// sendFile sends a file to a connection by sendfile(2), which takes no pipe and half the
// calls. It returns false for other ends, or if the kernel refuses: then run meets an
// error of the file again, and reports it.
func (t *transfer) sendFile() (done bool, err error) {
	if !t.file || !t.socket {
		return false, nil
	}
	send := t.newSend()
	for {
		max, err := t.in.allow(sendSize)
		if err == nil {
			max, err = t.out.allow(max)
		} else if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		t.limit, t.splices = max, true
		n, werr := t.to.WriteRaw(send)
		if !t.splices {
			return false, nil
		}
		if n == 0 && werr == nil {
			err = io.EOF
		}
		if err = t.in.passed(n, err); n > 0 || werr != nil {
			if err := t.passed(n, werr); err != nil {
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

// newSend returns a Call on dst that sends once. It clears t.splices after an error that
// does not belong to the connection.
func (t *transfer) newSend() *socket.Call {
	file, sock := t.from.(socket.Descriptor), 0
	send := socket.NewCall(func(fd int) (int, error) { return splice.Sendfile(sock, fd, t.limit) })
	return socket.NewCall(func(fd int) (int, error) {
		sock = fd
		n, err := file.Control(send)
		if err != nil && err != syscall.EAGAIN && !isBroken(err) {
			t.splices = false
			return 0, nil
		}
		return n, err
	})
}

// isBroken reports whether err, from sendfile, is an error of the connection. A connection
// reports its end only once.
func isBroken(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
		syscall.ECONNABORTED, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.ENOTCONN, syscall.EPROTO:
		return true
	}
	return false
}
