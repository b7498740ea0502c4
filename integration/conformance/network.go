package conformance

import "net"

// network is where the two sides meet: nil is this machine's own. What a
// program is started with, and what the kit's own side is, may be in different
// namespaces.
type network struct {
	// enter runs f where sockets are to be made; nil means here. A nil network
	// runs it here.
	enter func(f func() error) error

	// host is the address that the other side is reached at.
	host string
}

func (n *network) do(f func() error) error {
	if n == nil || n.enter == nil {
		return f()
	}
	return n.enter(f)
}

func (n *network) address() string {
	if n == nil {
		return "127.0.0.1"
	}
	return n.host
}

// listen is a listener of the kit's in the network.
func (t *trial) listen(n *network) *net.TCPListener {
	var ln net.Listener
	err := n.do(func() (err error) {
		ln, err = net.Listen("tcp4", n.address()+":0")
		return err
	})
	if err != nil {
		t.cannot("listening", err)
		return nil
	}
	t.owns(ln)
	return ln.(*net.TCPListener)
}

// accept waits for the program to connect.
func (t *trial) accept(ln *net.TCPListener) *peer {
	if t.over() {
		return t.peer(nil, "")
	}
	ln.SetDeadline(t.deadline(patience))
	conn, err := ln.AcceptTCP()
	t.started()
	if lacking(err) {
		t.cannot("accepting a connection", err)
		return t.peer(nil, "")
	}
	if err != nil {
		t.fail("the client to connect", "%v", err)
		return t.peer(nil, "")
	}
	return t.peer(conn, "connected from "+conn.RemoteAddr().String())
}
