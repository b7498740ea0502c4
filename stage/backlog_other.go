//go:build !linux

package stage

import "net"

func backlog(net.Conn) int { return -1 }
