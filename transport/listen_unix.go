//go:build unix

package transport

import (
	"os"
	"syscall"
)

// inherit sets the options of a listener that its connections are to have, too.
func inherit(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		for _, o := range inherited {
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
