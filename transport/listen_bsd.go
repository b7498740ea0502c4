//go:build unix && !linux

package transport

import "time"

// isOther returns false: here, all stream sockets of the Internet families are TCP.
func isOther(int) bool { return false }

// perConn makes package net enable keep-alive for each connection.
const perConn = time.Duration(0)

var inherited = []sockopt{urgentInline}
