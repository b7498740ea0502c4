package socket

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// pair returns a Socket of a connection of the system, and its client.
func pair(t *testing.T, network string) (*Socket, net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "socket")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return New(server, broken), client
}

// rawCalls are a read and a write that wait for the client.
var rawCalls = map[string]struct {
	do  func(s *Socket) (int, error)
	set func(d *Deadline, t time.Time)
}{
	"read":  {func(s *Socket) (int, error) { return s.ReadRaw(NewCall(readOne)) }, (*Deadline).SetRead},
	"write": {func(s *Socket) (int, error) { return s.WriteRaw(NewCall(fill)) }, (*Deadline).SetWrite},
}

func readOne(fd int) (int, error) { return syscall.Read(fd, make([]byte, 1)) }

// fill writes until there is no more room.
func fill(fd int) (int, error) {
	for {
		if n, err := syscall.Write(fd, make([]byte, 1<<16)); err != nil {
			return max(n, 0), err
		}
	}
}

func eachRawCall(t *testing.T, f func(t *testing.T, s *Socket, client net.Conn, do func() (int, error), set func(*Deadline, time.Time))) {
	for _, network := range []string{"tcp", "unix"} {
		for what, call := range rawCalls {
			t.Run(what+" on "+network, func(t *testing.T) {
				s, client := pair(t, network)
				f(t, s, client, func() (int, error) { return call.do(s) }, call.set)
			})
		}
	}
}

func TestRawDeadline(t *testing.T) {
	eachRawCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() (int, error), set func(*Deadline, time.Time)) {
		start := time.Now()
		set(s.NewDeadline(moves(5, 2*time.Millisecond, errOne)), start.Add(time.Millisecond))
		if n, err := do(); n != 0 || err != errOne || time.Since(start) < 11*time.Millisecond {
			t.Errorf("got %d, %v after %v", n, err, time.Since(start))
		}
	})
}

func TestRawInterrupt(t *testing.T) {
	eachRawCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() (int, error), set func(*Deadline, time.Time)) {
		// Interrupted by the owner of a deadline, so that the call waits by then.
		set(s.NewDeadline(func(now time.Time) (time.Time, error) {
			go s.Interrupt(errOne)
			return time.Time{}, nil
		}), time.Now().Add(time.Millisecond))
		for range 2 {
			if n, err := do(); n != 0 || err != errOne {
				t.Errorf("got %d, %v", n, err)
			}
		}
	})
}

func TestRawErrors(t *testing.T) {
	s, client := pair(t, "tcp")
	if n, err := s.ReadRaw(NewCall(func(int) (int, error) { return 3, io.EOF })); n != 3 || err != io.EOF {
		t.Errorf("the end: %d, %v", n, err)
	}
	memnet.Reset(client)
	if n, err := s.ReadRaw(NewCall(readOne)); n > 0 || !errors.Is(err, errBroken) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset: %d, %v", n, err)
	}
	s.Close()
	if n, err := s.ReadRaw(NewCall(readOne)); n != 0 || !errors.Is(err, errBroken) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %d, %v", n, err)
	}
}

// A call that begins after the deadline still takes bytes that have arrived.
func TestRawSecondLook(t *testing.T) {
	s, client := pair(t, "tcp")
	s.NewDeadline(nil).SetRead(time.Now().Add(-time.Second))
	client.Write([]byte("x"))
	if n, err := s.ReadRaw(NewCall(readOne)); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestRawAllocations(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		s, client := pair(t, network)
		s.NewDeadline(nil).SetRead(time.Now().Add(time.Hour))
		client.Write(make([]byte, 2000))
		buf := make([]byte, 1)
		read := NewCall(func(fd int) (int, error) { return syscall.Read(fd, buf) })
		if n := testing.AllocsPerRun(1000, func() {
			if n, err := s.ReadRaw(read); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for a read on %s", n, network)
		}
	}
}

func TestRawConnections(t *testing.T) {
	type embeds struct{ *net.TCPConn }
	for _, network := range []string{"tcp", "unix"} {
		s, _ := pair(t, network)
		if !s.HasDescriptor() || s.IsTCP() != (network == "tcp") {
			t.Errorf("%s: descriptor %t, TCP %t", network, s.HasDescriptor(), s.IsTCP())
		}
	}
	server, _ := memnet.Pair()
	for _, nc := range []net.Conn{server, embeds{}} {
		if s := (&Socket{nc: nc}); s.HasDescriptor() || s.Backlog() != -1 {
			t.Errorf("%T has a descriptor", nc)
		}
		if raw, _ := rawConn(nc); raw != nil {
			t.Errorf("%T has a raw connection", nc)
		}
	}
}

// fillUp writes until the client, which reads nothing, has no more room.
func fillUp(t *testing.T, s *Socket) {
	t.Helper()
	d := s.NewDeadline(moves(0, 0, errOne))
	d.SetWrite(time.Now().Add(100 * time.Millisecond))
	if _, err := s.WriteRaw(NewCall(fill)); err != errOne {
		t.Fatal(err)
	}
	d.SetWrite(time.Time{})
}

func TestBacklog(t *testing.T) {
	s, client := pair(t, "tcp")
	if n := s.Backlog(); n != 0 {
		t.Errorf("%d bytes before the first", n)
	}
	fillUp(t, s)
	s.Conn().(interface{ CloseWrite() error }).CloseWrite()
	if n := s.Backlog(); n < 1 {
		t.Errorf("%d bytes that the client has no room for", n)
	}
	if _, err := io.Copy(io.Discard, client); err != nil {
		t.Fatal(err)
	}
	for s.Backlog() > 0 { // the acknowledgement is under way
		runtime.Gosched()
	}
	s.Close()
	if n := s.Backlog(); n != -1 {
		t.Errorf("%d bytes after the close", n)
	}
}

// Bytes that the client takes count, although no write has gone on by them.
func TestStall(t *testing.T) {
	s, client := pair(t, "tcp")
	fillUp(t, s)
	stall, now := s.NewStall(time.Hour), time.Now()
	if next, ok := stall.Look(now); !ok || next.Sub(now) > time.Hour/10 {
		t.Fatalf("after a write: %t, and again in %v", ok, next.Sub(now))
	}
	before := s.Backlog()
	for s.Backlog() >= before {
		if _, err := io.CopyN(io.Discard, client, 64<<10); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(2 * time.Hour)
	if next, ok := stall.Look(now); !ok || next.Sub(now) > time.Hour/10 {
		t.Errorf("after the client took something: %t, and again in %v", ok, next.Sub(now))
	}
	// Acknowledgements may be under way, but these end.
	for ok := true; ok; _, ok = stall.Look(now) {
		now = now.Add(time.Hour)
	}
}
