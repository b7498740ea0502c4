//go:build !linux

package socket

import (
	"net"
	"syscall"
)

// rawConn returns nil: all bytes go through the methods of the connection.
func rawConn(net.Conn) (syscall.RawConn, bool) { return nil, false }

// Backlog returns -1: the number is unknown here.
func (s *Socket) Backlog() int { return -1 }
