package transport

import (
	"os"
	"syscall"
	"time"
)

// poller waits for many connections, by an epoll(7) of its own, for which the
// runtime waits by its own.
type poller struct {
	file *os.File
	raw  syscall.RawConn
}

// newPoller returns a poller, or nil if the system has none to give.
func newPoller() *poller {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	syscall.SetNonblock(fd, true) // so that the runtime waits for it
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	p.raw, err = p.file.SyscallConn()
	if err == nil {
		// The runtime may have no watch left for it (epoll(7), max_user_watches): it
		// does not say so before wait, which would end at once.
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		p.file.Close()
		return nil
	}
	return p
}

// watch has wait tell, once, when there is something to be read from fd, or the
// peer has ended its stream. again says that this poller has probably watched it before: not
// if the connection has another descriptor now, and it has if that is one which it had.
func (p *poller) watch(fd int, again bool) error {
	op, other := syscall.EPOLL_CTL_ADD, syscall.EPOLL_CTL_MOD
	if again {
		op, other = other, op
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
	var err error
	if cerr := p.raw.Control(func(epoll uintptr) {
		err = syscall.EpollCtl(int(epoll), op, fd, &event)
		if err == syscall.ENOENT || err == syscall.EEXIST {
			err = syscall.EpollCtl(int(epoll), other, fd, &event)
		}
		err = os.NewSyscallError("epoll_ctl", err)
	}); cerr != nil {
		return cerr
	}
	return err
}

// wait calls ready with each descriptor of which there is something to be told,
// until close is called. Some may be those of other connections by then.
func (p *poller) wait(ready func(fd int)) {
	var events [128]syscall.EpollEvent
	var n int
	look := func(epoll uintptr) bool {
		// It does not wait, and so is not interrupted either.
		n, _ = syscall.EpollWait(int(epoll), events[:], 0)
		return n > 0
	}
	for p.raw.Read(look) == nil {
		for _, e := range events[:n] {
			ready(int(e.Fd))
		}
	}
}

func (p *poller) close() { p.file.Close() }
