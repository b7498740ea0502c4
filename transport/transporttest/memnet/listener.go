package memnet

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Listener is a net.Listener to which connections are made by its Dial. As with the
// kernel's queue, a connection is connected, and can be written to, before it is
// accepted. It is safe for concurrent use.
type Listener struct {
	link  // guards all that follows
	queue []*Conn
	limit int
	port  uint16 // of the next client
	done  bool
	fault func() error
}

// Listen returns a Listener in whose queue as many connections as backlog says, at
// least 1, wait to be accepted.
func Listen(backlog int) *Listener {
	l := &Listener{limit: max(backlog, 1), port: clientAddr.AddrPort().Port()}
	l.changed.L = &l.mu
	return l
}

// Addr returns the address to which connections are made.
func (l *Listener) Addr() net.Addr { return serverAddr }

func (l *Listener) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: serverAddr, Err: err}
}

// Dial connects to l, from a port of its own. It waits while the queue is full, until
// ctx is done, and then returns ctx's error; after Close it is a syscall.ECONNREFUSED.
// The errors are *net.OpError.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) { return l.dial(ctx, nil) }

// DialFrom is Dial from this address.
func (l *Listener) DialFrom(ctx context.Context, addr net.Addr) (*Conn, error) {
	return l.dial(ctx, addr)
}

func (l *Listener) dial(ctx context.Context, addr net.Addr) (*Conn, error) {
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
			if addr == nil {
				addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(clientAddr.AddrPort().Addr(), l.port))
				l.port++
			}
			server, client := PairOf(serverAddr, addr)
			l.queue = append(l.queue, server)
			l.changed.Broadcast()
			return client, nil
		}
		l.changed.Wait()
	}
}

// Accept returns the connection that has waited longest, or waits for one. After Close
// it is a net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	defer l.lock()()
	for asked := false; ; asked = true {
		if !asked && l.fault != nil && !l.done {
			fault := l.fault
			l.mu.Unlock()
			err := fault()
			l.mu.Lock()
			if err != nil {
				return nil, l.failed("accept", err)
			}
		}
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

// FailIf has each Accept that begins from now on fail for which fault returns an error,
// such as syscall.EMFILE; the connection that it might have returned stays in the queue.
// fault may be called by many at a time. Nil ends that.
func (l *Listener) FailIf(fault func() error) {
	defer l.lock()()
	l.fault = fault
}

// Close ends all Accepts and Dials, and resets the connections that nobody has accepted.
func (l *Listener) Close() error {
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

var _ net.Listener = (*Listener)(nil)
