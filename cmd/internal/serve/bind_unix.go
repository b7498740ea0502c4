//go:build unix

package serve

import (
	"errors"
	"os"
	"syscall"
)

// bind binds a socket to a port of every address, and closes it. It never listens, so
// no client can connect. With SO_REUSEADDR, which servers set, it does not disturb a
// server that starts at the same moment. A port in use is no error.
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
