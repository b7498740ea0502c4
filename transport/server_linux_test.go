package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// openFiles says what the process has open.
func openFiles(t *testing.T) (targets []string) {
	t.Helper()
	const dir = "/proc/self/fd/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// The one that ReadDir has used is gone.
		if target, err := os.Readlink(dir + e.Name()); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

// openDescriptors counts them, but for pipes: the runtime keeps those of io.Copy
// until they are collected.
func openDescriptors(t *testing.T) int {
	t.Helper()
	return len(slices.DeleteFunc(openFiles(t), func(target string) bool { return strings.HasPrefix(target, "pipe:") }))
}

func TestServeLeavesNoDescriptor(t *testing.T) {
	const count = 300
	visitorSees(t, func() net.Listener { ln, _ := listen(t); ln.Close(); return ln }()) // the poller's own, once and for all
	before := openDescriptors(t)
	ln, err := Listen(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, &Server{Handler: func(_ context.Context, conn net.Conn, number uint64) {
		if number%2 == 0 {
			panic("one of many")
		}
	}}, ln)
	for range count {
		if got := visitorSees(t, ln); got != orderly && got != byReset {
			t.Fatalf("a client sees an end %s", got)
		}
	}
	s.end(t)
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, and %d were before", after, before)
	}
}

// The last descriptor is gone, and not by the fault of a test's listener.
func TestShortageOfDescriptors(t *testing.T) {
	ln, _ := listen(t)
	short := make(chan error, 100)
	served := make(chan struct{}, 2)
	s := serve(t, &Server{
		OnError: func(err error) { short <- err },
		Handler: func(_ context.Context, conn net.Conn, _ uint64) {
			defer conn.Close()
			served <- struct{}{}
			io.Copy(conn, onlyReader{conn})
		},
	}, ln)
	echo := func(client *net.TCPConn) {
		t.Helper()
		io.WriteString(client, "hello")
		client.CloseWrite()
		if got, err := io.ReadAll(client); string(got) != "hello" || err != nil {
			t.Errorf("the client reads %q, %v", got, err)
		}
	}
	first := dial(t, ln)
	<-served

	limitDescriptors(t, len(openFiles(t))+10)
	var taken []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		taken = append(taken, f)
	}
	taken[0].Close() // for the client, whose connection takes the server's last one
	second := dial(t, ln)
	if err := <-short; !errors.Is(err, syscall.EMFILE) {
		t.Errorf("told of %v", err)
	}
	echo(first) // who is connected is served all the while
	for _, f := range taken[1:] {
		f.Close()
	}
	echo(second)
	s.end(t)
}

// onlyReader keeps io.Copy to what it says, without pipes of its own.
type onlyReader struct{ io.Reader }

func TestServeThousandConnections(t *testing.T) {
	const count = 1000
	before := openDescriptors(t)
	ln, _ := listen(t)
	var atWork atomic.Int32
	all := make(chan struct{})
	s := serve(t, &Server{Handler: func(ctx context.Context, conn net.Conn, _ uint64) {
		defer conn.Close()
		if atWork.Add(1) == count {
			close(all)
		}
		<-ctx.Done()
	}}, ln)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
	}
	<-all
	s.end(t)
	for _, client := range clients {
		if got := peerSees(t, client); got != orderly {
			t.Errorf("a client sees an end %s", got)
		}
		client.Close()
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, and %d were before", after, before)
	}
}
