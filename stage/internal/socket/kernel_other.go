//go:build !linux

package socket

import (
	"net"
	"syscall"
)

// rawConn returns nil: the kernel has no way to move bytes that is known here.
func rawConn(net.Conn) (syscall.RawConn, bool) { return nil, false }

// Backlog returns -1: how many bytes the peer has not acknowledged cannot be known.
func (s *Socket) Backlog() int { return -1 }
