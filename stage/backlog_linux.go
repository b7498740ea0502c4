package stage

import (
	"syscall"
	"unsafe"
)

// backlog is how many bytes nc has been given that its peer has not
// acknowledged, its end of stream among them as one more, or -1 if it is no
// connection of the system's (SIOCOUTQ in tcp(7) and unix(7)).
func backlog(nc any) int {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return -1
	}
	var n int32
	errno := syscall.EINVAL
	err = rc.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	if err != nil || errno != 0 {
		return -1
	}
	return int(n)
}
