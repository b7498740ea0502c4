package conformance

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// FillQueue listens on an IPv4 address and fills the queue. Until empty is called
// nobody answers there: connections are neither accepted nor refused. addr is
// host:port; port 0 is any that is free. The error is an [errors.ErrUnsupported] if
// this system does not let the queue be full.
func FillQueue(addr string) (port int, empty func(), err error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return 0, nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	var conns []net.Conn
	release := func() {
		syscall.Close(fd)
		for _, c := range conns {
			c.Close()
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}); err != nil {
		return 0, nil, err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return 0, nil, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, nil, err
	}
	a.Port = name.(*syscall.SockaddrInet4).Port
	// The kernel takes one more than the backlog says, and drops what comes
	// then. Whoever gets no answer for a while says that the queue is full.
	for range 8 {
		conn, err := net.DialTimeout("tcp4", a.String(), 300*time.Millisecond)
		if err != nil {
			return a.Port, release, nil
		}
		conns = append(conns, conn)
	}
	return 0, nil, fmt.Errorf("a listener's queue cannot be filled here: %w", errors.ErrUnsupported)
}
