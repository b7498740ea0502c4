//go:build unix

package transport

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// inherit sets options on a listener that its connections inherit.
func inherit(_, _ string, c syscall.RawConn) error { return set(c, inherited...) }

// makeInline sets urgentInline on a connection.
func makeInline(conn net.Conn) {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			set(raw, urgentInline) // may fail after a reset, which Read reports
		}
	}
}

// checkListener returns an error if f is not a listening TCP socket.
func checkListener(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = checkSocket(int(fd)) })
	return errors.Join(cerr, err)
}

func checkSocket(fd int) error {
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch address.(type) {
	case *syscall.SockaddrInet4, *syscall.SockaddrInet6:
	default:
		return errors.New("it is not a TCP socket: its connections cannot be reset, so a client could take a failure for success")
	}
	if kind != syscall.SOCK_STREAM || isOther(fd) {
		return errors.New("it is not a TCP socket, but of another protocol, such as Multipath TCP")
	}
	listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if listens == 0 {
		return errors.New("it does not listen: it is a connection, or listen(2) was not called")
	}
	return nil
}

func set(c syscall.RawConn, options ...sockopt) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		for _, o := range options {
			err = errors.Join(err, os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), o.level, o.name, o.value)))
		}
	})
	return errors.Join(cerr, err)
}

type sockopt struct{ level, name, value int }

// urgentInline keeps urgent data in the stream (RFC 6093, section 3.3).
var urgentInline = sockopt{syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1}
