//go:build unix

package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// filer is what package net's listeners and connections are, whose descriptors can be
// passed on.
type filer interface{ File() (*os.File, error) }

// fileOf is the descriptor of a socket, as another process would get it.
func fileOf(t *testing.T, socket any) *os.File {
	t.Helper()
	f, err := socket.(filer).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// listenOn listens as programs do that are not in Go: not for Multipath TCP.
func listenOn(t *testing.T, network, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// passed listens on a port as somebody else would, and passes the socket on.
func passed(t *testing.T, network, address string) (theirs, ours net.Listener) {
	t.Helper()
	theirs = listenOn(t, network, address)
	f := fileOf(t, theirs)
	ours, err := FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	f.Close()
	return theirs, ours
}

func TestFileListener(t *testing.T) {
	for _, tt := range []struct{ name, network, address string }{
		{"of IPv4", "tcp4", "127.0.0.1:0"},
		{"of IPv6", "tcp6", "[::1]:0"},
		{"of both", "tcp", "[::]:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if probe, err := net.Listen(tt.network, tt.address); err != nil {
				t.Skipf("the machine has none: %v", err)
			} else {
				probe.Close()
			}
			theirs, ours := passed(t, tt.network, tt.address)
			if got, want := ours.Addr().String(), theirs.Addr().String(); got != want {
				t.Errorf("it listens on %s, want %s", got, want)
			}
			client, err := net.Dial("tcp", theirs.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			conn := accept(t, ours)
			io.WriteString(client, "hello")
			client.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
				t.Errorf("there came %q, %v", got, err)
			}
		})
	}
}

// Who connects first is there before the server that is started for it.
func TestFileListenerBacklogOptions(t *testing.T) {
	theirs := listenOn(t, "tcp4", "127.0.0.1:0")
	client := dial(t, theirs)
	sendUrgent(t, client, "ab")
	io.WriteString(client, "c")
	sendUrgent(t, client, "d")
	client.CloseWrite()
	ours, err := FileListener(fileOf(t, theirs))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	conn := accept(t, ours)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range inherited {
		var got int
		raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), o.level, o.name) })
		if (got == 0) != (o.value == 0) || o.value > 1 && got != o.value || err != nil {
			t.Errorf("option %d of level %d is %d, %v; want %d", o.name, o.level, got, err, o.value)
		}
	}
	if got, err := io.ReadAll(conn); string(got) != "abcd" || err != nil {
		t.Errorf("there came %q, %v", got, err)
	}
}

func TestFileListenerErrors(t *testing.T) {
	ln, _ := listen(t)
	client := dial(t, ln)
	socket := func(domain, kind int) *os.File {
		fd, err := syscall.Socket(domain, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "socket")
		t.Cleanup(func() { f.Close() })
		return f
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	unixListener, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	tests := []struct {
		name  string
		file  *os.File
		is    error
		words string
	}{
		{"a file", null, syscall.ENOTSOCK, "socket"},
		{"a closed file", closed, nil, "closed"},
		{"datagrams", fileOf(t, packets), nil, "of another protocol"},
		{"a socket of the machine", fileOf(t, unixListener), nil, "not a TCP socket"},
		{"a connection", fileOf(t, client), nil, "does not listen"},
		{"a socket without a purpose", socket(syscall.AF_INET, syscall.SOCK_STREAM), nil, "does not listen"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := FileListener(tt.file)
			if err == nil {
				ln.Close()
				t.Fatal("it is a listener")
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is no %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), "cannot accept connections from") {
				t.Errorf("%q does not say %q", err, tt.words)
			}
		})
	}
}

// A server that stops leaves who waits in the queue to the next.
func TestFileListenerBacklogSurvivesClose(t *testing.T) {
	for name, drain := range map[string]bool{"at once": false, "that drains": true} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := passed(t, "tcp4", "127.0.0.1:0")
			serving, end := make(chan struct{}), make(chan struct{})
			srv := &Server{
				Scheduler: Sequential(),
				Handler: func(ctx context.Context, conn net.Conn, _ uint64) {
					defer conn.Close()
					close(serving)
					if drain {
						<-end
						io.WriteString(conn, "served")
						return
					}
					<-ctx.Done()
				},
			}
			if drain {
				srv.DrainNow = make(chan struct{})
			}
			s := serve(t, srv, ours)
			first := dial(t, theirs)
			<-serving
			var waiting []*net.TCPConn
			for range 20 {
				waiting = append(waiting, dial(t, theirs))
			}
			s.stop()
			late := dial(t, theirs)
			close(end)
			if err := <-s.result; err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(first); err != nil || drain && string(got) != "served" {
				t.Errorf("the first reads %q, %v", got, err)
			}
			for _, client := range append(waiting, late) {
				conn := accept(t, theirs)
				io.WriteString(conn, "by the next")
				conn.Close()
				if got, err := io.ReadAll(client); string(got) != "by the next" || err != nil {
					t.Fatalf("who waited reads %q, %v", got, err)
				}
			}
		})
	}
}
