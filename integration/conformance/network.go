package conformance

import (
	"net"
	"sync"
	"time"
)

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

// listener is one of the kit's, for one client at a time.
type listener struct {
	*net.TCPListener
	client *process // that was sent there last
}

// listen is a listener of the kit's in the network.
func (t *trial) listen(n *network) *listener {
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
	return &listener{TCPListener: ln.(*net.TCPListener)}
}

// accept waits for the client to connect, and no longer than there is one.
func (t *trial) accept(ln *listener) *peer {
	if t.over() {
		return t.peer(nil, "")
	}
	ln.SetDeadline(t.deadline(patience))
	accepted := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ln.client.done:
			// A proxy may yet be about to pass its connection on.
			ln.SetDeadline(t.deadline(time.Second))
		case <-accepted:
		}
	})
	conn, err := ln.AcceptTCP()
	close(accepted)
	watch.Wait()
	ln.client.isUp()
	if lacking(err) {
		t.cannot("accepting a connection", err)
		return t.peer(nil, "")
	}
	if err != nil {
		seen := "it does not, and goes on"
		select {
		case <-ln.client.done:
			seen = "it ended, " + ln.client.exit()
		default:
		}
		ln.client.fail("the client to connect", "%s", seen)
		return t.peer(nil, "")
	}
	p := t.peer(conn, "connected from "+conn.RemoteAddr().String())
	p.t.process = ln.client
	return p
}
