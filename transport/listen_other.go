//go:build !unix

package transport

import "syscall"

// keepUrgentInline does nothing where it is not known how.
func keepUrgentInline(_, _ string, _ syscall.RawConn) error { return nil }
