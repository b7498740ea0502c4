//go:build unix && !linux

package transport

import "time"

// perConn has package net enable keep-alive for each connection.
const perConn = time.Duration(0)

var inherited = []sockopt{urgentInline}
