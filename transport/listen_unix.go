//go:build unix

package transport

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// inherit sets the options of a listener that its connections are to have, too.
func inherit(_, _ string, c syscall.RawConn) error { return set(c, inherited...) }

// makeInline sets for a connection what it has not inherited and package net does
// not set.
func makeInline(conn net.Conn) {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			// It fails for a connection that the peer has reset, on some systems, and
			// who reads will learn of that.
			set(raw, urgentInline)
		}
	}
}

// checkListener tells what is wrong with a socket that Server is to accept
// connections from.
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
		return errors.New("it is not a socket of TCP: connections of others cannot be reset, and so a client could take a failure for success")
	}
	if kind != syscall.SOCK_STREAM || isOther(fd) {
		return errors.New("it is a socket of another protocol than TCP, such as Multipath TCP")
	}
	listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if listens == 0 {
		return errors.New("it does not listen: it is a connection, or nobody has called listen")
	}
	return nil
}

func set(c syscall.RawConn, options ...sockopt) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		for _, o := range options {
			if err = syscall.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil {
				err = os.NewSyscallError("setsockopt", err)
				return
			}
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

type sockopt struct{ level, name, value int }

// urgentInline has urgent data delivered in the stream (RFC 6093, section 3.3).
// Otherwise a byte sent as urgent would be missing from it.
var urgentInline = sockopt{syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1}
