// Package exampletest runs the example servers in their tests, and talks to them.
package exampletest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test that fails waits.
const Patience = 30 * time.Second

// Run is an example under test.
type Run struct {
	Stop func()       // has it stop, and does not wait
	End  func() error // has it stop, waits, and returns what serve has; also if called again
}

// Start has serve run until the test ends at the latest. That is to be without an error.
func Start(t *testing.T, serve func(ctx context.Context) error) *Run {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx) }()
	r := &Run{Stop: cancel, End: sync.OnceValue(func() error {
		cancel()
		return <-ended
	})}
	t.Cleanup(func() {
		if err := r.End(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Listen returns a listener on this machine, which is for a server to close.
func Listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// Dial connects to a server for as long as the test goes on, within [Patience].
func Dial(t *testing.T, addr net.Addr) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout(addr.Network(), addr.String(), Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(Patience))
	return conn.(*net.TCPConn)
}

// AwaitClosed returns when nobody listens at addr any more.
func AwaitClosed(addr net.Addr) {
	for {
		late, err := net.DialTimeout(addr.Network(), addr.String(), Patience)
		if err != nil {
			return
		}
		late.(*net.TCPConn).SetLinger(0) // it sends nothing that is to be kept
		late.Close()
	}
}

// Send sends a payload, ends the stream, and returns what the server says until its close.
func Send(t *testing.T, addr net.Addr, payload []byte) (told string, err error) {
	t.Helper()
	conn := Dial(t, addr)
	defer conn.Close()
	if _, err := conn.Write(payload); err != nil {
		return "", err
	}
	conn.CloseWrite()
	b, err := io.ReadAll(conn)
	return string(b), err
}
