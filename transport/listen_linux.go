package transport

import (
	"syscall"
	"time"
)

// perConn disables the system calls of package net for each connection.
const perConn = time.Duration(-1)

// isOther reports whether a stream socket is of Multipath TCP or SCTP (socket(7),
// SO_PROTOCOL).
func isOther(fd int) bool {
	protocol, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PROTOCOL)
	return err == nil && protocol != syscall.IPPROTO_TCP
}

// An accepted connection inherits the options of its listener (tcp_create_openreq_child in
// net/ipv4/tcp_minisocks.c). Package net would use four system calls for each.
var inherited = []sockopt{
	urgentInline,
	{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
}
