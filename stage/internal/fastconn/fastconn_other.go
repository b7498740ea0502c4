//go:build !linux

package fastconn

import "net"

// New returns nc.
func New(nc net.Conn) net.Conn { return nc }
