//go:build unix && !linux

package transport

import "time"

// isOther finds none: a stream socket of the internet's families is TCP's.
func isOther(int) bool { return false }

// perConn has package net enable keep-alive for each connection.
const perConn = time.Duration(0)

var inherited = []sockopt{urgentInline}
