//go:build !unix

package transport

import (
	"syscall"
	"time"
)

// perConn has package net enable keep-alive for each connection.
const perConn = time.Duration(0)

// inherit does nothing where it is not known how.
func inherit(_, _ string, _ syscall.RawConn) error { return nil }
