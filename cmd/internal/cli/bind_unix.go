//go:build unix

package cli

import (
	"errors"
	"os"
	"syscall"
)

// bind binds a socket to a port of every address, without listening: so nobody can
// connect to it. With SO_REUSEADDR, as servers have it, two can be bound that do not
// listen: so no server fails that starts at the same moment. It is no error if the
// port is in use.
func bind(port uint16) error {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(port)}); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		return os.NewSyscallError("bind", err)
	}
	return nil
}
