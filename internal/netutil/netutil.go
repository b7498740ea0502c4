// Package netutil has what packages stage and transport both need of connections.
package netutil

import "net"

// Innermost returns the connection under all layers of nc, such as that of crypto/tls.
// A layer is a connection with a method NetConn.
func Innermost(nc net.Conn) net.Conn {
	for {
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = layer.NetConn()
	}
}

// SetLinger decides what a later close of nc tells the peer, also a close by the system
// when the process ends: a reset with 0, an orderly end with -1 (SO_LINGER in
// socket(7)). It does nothing if the innermost connection is not TCP.
func SetLinger(nc net.Conn, sec int) {
	if tcp, ok := Innermost(nc).(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(sec)
	}
}

// Reset closes nc so that its peer cannot mistake the close for an orderly end. It
// closes the innermost connection first, or a layer could still say goodbye.
func Reset(nc net.Conn) {
	SetLinger(nc, 0)
	Innermost(nc).Close()
	nc.Close()
}
