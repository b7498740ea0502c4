package transport

import (
	"syscall"
	"time"
)

// perConn is nothing to be done for each connection.
const perConn = time.Duration(-1)

// isOther reports whether a stream socket of the internet's families is not TCP's:
// Multipath TCP and SCTP have such (socket(7), SO_PROTOCOL).
func isOther(fd int) bool {
	protocol, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_PROTOCOL)
	return err == nil && protocol != syscall.IPPROTO_TCP
}

// A connection that is accepted has the keep-alive options of its listener
// (tcp_create_openreq_child in net/ipv4/tcp_minisocks.c). They are those that
// package net would set, by four system calls for each connection.
var inherited = []sockopt{
	urgentInline,
	{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
}
