// Package splice has the system calls that move bytes between descriptors without copying
// them into the program, as plain functions. It knows neither connections nor stages.
//
// Each function makes one attempt and does not block; syscall.EAGAIN says that it would.
// An end of the stream is io.EOF.
package splice

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// MaxSize bounds one transfer.
const MaxSize = 1 << 20

// Read reads into p.
func Read(fd int, p []byte) (int, error) {
	n, err := retry(func() (int, error) { return syscall.Read(fd, p) })
	return ended(n, "read", err)
}

// Write writes as much of p as there is room for.
func Write(fd int, p []byte) (int, error) {
	n, err := retry(func() (int, error) { return syscall.Write(fd, p) })
	return max(n, 0), named("write", err)
}

// Discard drops up to limit bytes that a TCP connection has received (MSG_TRUNC in tcp(7)).
func Discard(fd, limit int) (int, error) {
	n, err := retry(func() (int, error) {
		n, _, err := syscall.Recvfrom(fd, dropped[:min(limit, MaxSize)], syscall.MSG_TRUNC)
		return n, err
	})
	return ended(n, "recvfrom", err)
}

// Peek reports whether a read of a TCP connection would find bytes, and otherwise the
// error that it would return. A socket reports each error only once.
func Peek(fd int) (bool, error) {
	n, _, err := syscall.Recvfrom(fd, dropped[:1], syscall.MSG_PEEK|syscall.MSG_TRUNC|syscall.MSG_DONTWAIT)
	if n > 0 {
		return true, nil
	}
	_, err = ended(n, "recvfrom", err)
	return false, err
}

// dropped is where discarded bytes would go: the kernel never writes to it, so that it
// takes no memory.
var dropped [MaxSize]byte

// Sendfile sends up to limit bytes of a file, from its offset, to a socket.
func Sendfile(socket, file, limit int) (int, error) {
	n, err := retry(func() (int, error) { return syscall.Sendfile(socket, file, nil, limit) })
	if err != nil {
		return 0, named("sendfile", err)
	}
	return n, nil
}

// Flags of splice(2), which package syscall lacks.
const (
	spliceMove     = 0x1
	spliceNonblock = 0x2
)

// Pipe holds bytes on their way from one descriptor to another. The zero value is empty
// and holds no descriptors.
type Pipe struct {
	pipe *pipe // nil: none is taken
	held int
}

// pipe is a pipe(2), empty unless a Pipe holds it.
type pipe struct{ r, w int }

// MaxPipes bounds the pipes of the process, and so the descriptors that they take: twice
// as many. A pipe is held only while bytes move, so a few serve any number of connections.
const MaxPipes = 8

var pipes struct {
	sync.Mutex
	free []*pipe
	open int
}

// Take takes a pipe for p, if it has none. It reports false if all are in use, or if there
// is no descriptor left for another.
func (p *Pipe) Take() bool {
	if p.pipe != nil {
		return true
	}
	pipes.Lock()
	defer pipes.Unlock()
	if n := len(pipes.free); n > 0 {
		p.pipe, pipes.free = pipes.free[n-1], pipes.free[:n-1]
		return true
	}
	if pipes.open == MaxPipes {
		return false
	}
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		return false
	}
	// An unprivileged user may be refused the larger size (pipe-user-pages-soft in
	// pipe(7)). The pipe works with the size that it has, too.
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), syscall.F_SETPIPE_SZ, MaxSize)
	pipes.open++
	p.pipe = &pipe{r: fds[0], w: fds[1]}
	return true
}

// Free gives the pipe back, if p has taken one. A pipe that still holds bytes is closed.
func (p *Pipe) Free() {
	free := p.pipe
	if free == nil {
		return
	}
	pipes.Lock()
	defer pipes.Unlock()
	if p.held == 0 {
		pipes.free = append(pipes.free, free)
	} else {
		syscall.Close(free.r)
		syscall.Close(free.w)
		pipes.open--
	}
	*p = Pipe{}
}

// Held returns how many bytes the pipe holds.
func (p *Pipe) Held() int { return p.held }

// Fill moves up to limit bytes from fd into the pipe. Between descriptors that the kernel
// cannot splice it fails with syscall.EINVAL.
func (p *Pipe) Fill(fd, limit int) (int, error) {
	n, err := splice(fd, p.pipe.w, limit)
	p.held += n
	return ended(n, "splice", err)
}

// Drain moves up to limit bytes from the pipe to fd. It fails with syscall.EINVAL if the
// kernel cannot splice to fd, as to a file that is open for appending.
func (p *Pipe) Drain(fd, limit int) (int, error) {
	n, err := splice(p.pipe.r, fd, limit)
	if n == 0 && err == nil {
		return 0, io.ErrShortWrite
	}
	p.held -= n
	return n, named("splice", err)
}

// Read reads bytes that the pipe holds.
func (p *Pipe) Read(b []byte) (int, error) {
	n, err := Read(p.pipe.r, b[:min(p.held, len(b))])
	p.held -= n
	return n, err
}

func splice(from, to, limit int) (int, error) {
	return retry(func() (int, error) {
		n, err := syscall.Splice(from, nil, to, nil, limit, spliceMove|spliceNonblock)
		return max(int(n), 0), err
	})
}

// maxRetries bounds the attempts after EINTR: signals that keep coming must not extend the
// wait of a descriptor that blocks for a limited time (SO_RCVTIMEO in socket(7)).
const maxRetries = 8

func retry(call func() (int, error)) (n int, err error) {
	for range maxRetries {
		if n, err = call(); err != syscall.EINTR {
			return n, err
		}
	}
	return 0, syscall.EAGAIN
}

// ended turns a result without a byte into io.EOF.
func ended(n int, call string, err error) (int, error) {
	if err != nil {
		return 0, named(call, err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// named adds the name of the call to an error that the caller does not handle.
func named(call string, err error) error {
	if err == syscall.EAGAIN || err == syscall.EINVAL {
		return err
	}
	return os.NewSyscallError(call, err)
}
