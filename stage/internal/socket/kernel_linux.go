package socket

import (
	"net"
	"syscall"
	"unsafe"

	"github.com/accio-go/accio/internal/netutil"
	"github.com/accio-go/accio/stage/internal/fastconn"
)

// rawConn returns the raw connection of nc, or nil if bytes must go through the methods of
// nc. A type that embeds a *net.TCPConn may have its own Read, which the inherited
// SyscallConn would bypass.
func rawConn(nc net.Conn) (raw syscall.RawConn, tcp bool) {
	switch c := nc.(type) {
	case *net.TCPConn: // under a layer
		raw, _ = c.SyscallConn()
		return raw, true
	case *fastconn.Conn:
		raw, _ = c.SyscallConn()
		return raw, true
	case *net.UnixConn:
		if IsStream(c) {
			raw, _ = c.SyscallConn()
		}
	}
	return raw, false
}

// IsStream reports whether c is a stream. Packets have bounds, which splice would not
// keep, and an empty packet is not the end.
func IsStream(c *net.UnixConn) bool { return c.LocalAddr().Network() == "unix" }

// Backlog returns how many written bytes the peer has not acknowledged, or -1 if that is
// unknown. The end of the stream counts as one more (SIOCOUTQ in tcp(7) and unix(7)). It
// looks at the connection under all layers.
func (s *Socket) Backlog() int {
	raw, _ := rawConn(netutil.Innermost(s.nc))
	if raw == nil {
		return -1
	}
	var n int32
	errno := syscall.EINVAL
	err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	if err != nil || errno != 0 {
		return -1
	}
	return int(n)
}
