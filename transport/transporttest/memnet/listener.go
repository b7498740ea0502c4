package memnet

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Listener is a net.Listener in memory. It is safe for concurrent use.
//
// As with the kernel's listen backlog, a connection is established, and can be written
// to, before Accept returns it. Close ends all calls of Accept and Dial, and resets the
// connections in the backlog.
type Listener interface {
	net.Listener

	// Dial connects to the listener, each time from another port. It waits while the
	// backlog is full, until ctx is done, and then returns ctx's error. After Close it
	// returns syscall.ECONNREFUSED. The errors are *net.OpError.
	Dial(ctx context.Context) (Conn, error)
}

// listener is a [Listener]. The mutex of the link guards the other fields.
type listener struct {
	link
	queue []*conn
	limit int
	port  uint16 // of the next client
	done  bool
}

// Listen returns a Listener with a backlog of that many connections, at least 1.
func Listen(backlog int) Listener {
	l := &listener{limit: max(backlog, 1), port: clientAddr.AddrPort().Port()}
	l.changed.L = &l.mu
	return l
}

func (l *listener) Addr() net.Addr { return serverAddr }

func (l *listener) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: serverAddr, Err: err}
}

func (l *listener) Dial(ctx context.Context) (Conn, error) {
	stop := context.AfterFunc(ctx, func() {
		defer l.lock()()
		l.changed.Broadcast()
	})
	defer stop()
	defer l.lock()()
	for {
		switch {
		case ctx.Err() != nil:
			return nil, l.failed("dial", ctx.Err())
		case l.done:
			return nil, l.failed("dial", syscall.ECONNREFUSED)
		case len(l.queue) < l.limit:
			from := netip.AddrPortFrom(clientAddr.AddrPort().Addr(), l.port)
			l.port++
			server, client := pair(serverAddr, net.TCPAddrFromAddrPort(from))
			l.queue = append(l.queue, server)
			l.changed.Broadcast()
			return client, nil
		}
		l.changed.Wait()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	defer l.lock()()
	for {
		switch {
		case l.done:
			return nil, l.failed("accept", net.ErrClosed)
		case len(l.queue) > 0:
			c := l.queue[0]
			l.queue = l.queue[1:]
			l.changed.Broadcast()
			return c, nil
		}
		l.changed.Wait()
	}
}

func (l *listener) Close() error {
	defer l.lock()()
	if l.done {
		return l.failed("close", net.ErrClosed)
	}
	l.done = true
	for _, c := range l.queue {
		c.SetLinger(0)
		c.Close()
	}
	l.queue = nil
	l.changed.Broadcast()
	return nil
}
