//go:build unix

package transport

import (
	"os"
	"syscall"
)

// keepUrgentInline has a listener's connections, which inherit it, deliver
// urgent data in the stream (RFC 6093, section 3.3). Otherwise a byte sent as
// urgent would be missing from it.
func keepUrgentInline(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1))
	})
	if cerr != nil {
		return cerr
	}
	return err
}
