package transport

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// sessionFunc is a function as a Session.
type sessionFunc func(wake func()) (until time.Time, waits bool)

func (f sessionFunc) Run(wake func()) (time.Time, bool) { return f(wake) }

// echoing is a Handler of Sessions that wait in place, which nothing but a nil wake
// asks of them. It says "parks" where it is not.
func echoing(_ context.Context, conn net.Conn, _ uint64) Session {
	return sessionFunc(func(wake func()) (time.Time, bool) {
		defer conn.Close()
		if wake != nil {
			io.WriteString(conn, "parks")
			return time.Time{}, false
		}
		hello := make([]byte, 5)
		io.ReadFull(conn, hello)
		conn.Write(hello)
		return time.Time{}, false
	})
}

// greet says hello, and returns what comes back.
func greet(t *testing.T, conn net.Conn) string {
	t.Helper()
	io.WriteString(conn, "hello")
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(got)
}

func TestASessionThatNobodyCanResumeWaitsInPlace(t *testing.T) {
	ours, theirs := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		SessionHandler(echoing).ServeConn(t.Context(), ours, 1)
	}()
	if got := greet(t, theirs); got != "hello" {
		t.Errorf("the peer reads %q", got)
	}
	<-served
}

// bareListener is one whose connections show nothing of what they stand on.
type bareListener struct{ net.Listener }

func (l bareListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

func TestAConnectionWithoutADescriptorWaitsInPlace(t *testing.T) {
	ln, _ := listen(t)
	s := serve(t, &Server{Handler: SessionHandler(echoing)}, bareListener{ln})
	for range 3 {
		if got := greet(t, dial(t, ln)); got != "hello" {
			t.Errorf("the client reads %q", got)
		}
	}
	s.end(t)
}

// In a bubble time goes on only when nothing waits for the system.
func TestAServerInMemoryIsServedInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memnet.Listen(1)
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- (&Server{Handler: SessionHandler(echoing)}).Serve(ctx, ln) }()
		conn, err := ln.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := greet(t, conn); got != "hello" {
			t.Errorf("the client reads %q", got)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
