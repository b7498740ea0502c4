package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/internal/netutil"
)

// listen listens on a port that the system has chosen.
func listen(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	ln, err := Listen(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, uint16(ln.Addr().(*net.TCPAddr).Port)
}

// dial connects to a listener of this machine. The deadline is there for a test
// that fails, which else would not end.
func dial(t *testing.T, ln net.Listener) *net.TCPConn {
	t.Helper()
	conn, err := tryDial(ln)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func tryDial(ln net.Listener) (*net.TCPConn, error) {
	const patience = 30 * time.Second
	addr := fmt.Sprintf("127.0.0.1:%d", ln.Addr().(*net.TCPAddr).Port)
	conn, err := net.DialTimeout("tcp4", addr, patience)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn), nil
}

func accept(t *testing.T, ln net.Listener) *net.TCPConn {
	t.Helper()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestListenAddresses(t *testing.T) {
	ln, port := listen(t)
	if got, want := ln.Addr().String(), fmt.Sprintf("0.0.0.0:%d", port); got != want {
		t.Errorf("it listens on %s, want %s", got, want)
	}
	client := dial(t, ln)
	conn := accept(t, ln)
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("there came %q, %v", got, err)
	}
}

func TestListenMultipathTCP(t *testing.T) {
	ln, port := listen(t)
	var dialer net.Dialer
	dialer.SetMultipathTCP(true) // where the system has it
	client, err := dialer.DialContext(t.Context(), "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if multipath, err := accept(t, ln).MultipathTCP(); multipath || err != nil {
		t.Errorf("the connection is one: %v, %v", multipath, err)
	}
}

func TestListenPortInUse(t *testing.T) {
	_, port := listen(t)
	ln, err := Listen(t.Context(), port)
	if err == nil {
		ln.Close()
		t.Fatal("two listen on one port")
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v is no EADDRINUSE", err)
	}
	for _, part := range []string{"cannot listen", fmt.Sprintf("0.0.0.0:%d", port), "stop the program that uses the port", "choose another"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line", err)
	}
}

func TestListenContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cancel() // and the listener is not
	dial(t, ln)
	accept(t, ln)
}

func TestListenReusesPort(t *testing.T) {
	tests := []struct {
		name string
		end  func(t *testing.T, server, client *net.TCPConn)
	}{
		{"with a connection in TIME_WAIT", func(t *testing.T, server, client *net.TCPConn) {
			// Who closes first is who has to wait: the server's side.
			server.Close()
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("the client reads %v", err)
			}
			client.Close()
		}},
		{"with a connection that goes on", func(*testing.T, *net.TCPConn, *net.TCPConn) {}},
		{"with a connection that the client has yet to close", func(t *testing.T, server, client *net.TCPConn) {
			server.Close()
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("the client reads %v", err)
			}
		}},
		{"with a connection that was reset", func(t *testing.T, server, client *net.TCPConn) {
			netutil.Reset(server)
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the client reads %v", err)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ln, port := listen(t)
			client := dial(t, ln)
			server := accept(t, ln)
			test.end(t, server, client)
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := Listen(t.Context(), port)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			dial(t, again)
			accept(t, again)
		})
	}
}

func TestListenBacklog(t *testing.T) {
	const waiting = 128
	ln, _ := listen(t)
	clients := make(map[string]*net.TCPConn)
	for range waiting {
		c := dial(t, ln)
		clients[c.LocalAddr().String()] = c
	}
	for range waiting {
		conn := accept(t, ln)
		client := clients[conn.RemoteAddr().String()]
		if client == nil {
			t.Fatalf("%v is none of the clients", conn.RemoteAddr())
		}
		delete(clients, conn.RemoteAddr().String())
		io.WriteString(conn, "your turn")
		conn.Close()
		if got, err := io.ReadAll(client); string(got) != "your turn" || err != nil {
			t.Fatalf("a client that waited reads %q, %v", got, err)
		}
	}
}

func TestListenOnAddress(t *testing.T) {
	for _, tt := range []struct{ network, address, want string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "localhost:0", "127.0.0.1"},
		{"tcp4", ":0", "0.0.0.0"},
		{"tcp", ":0", "::"},
	} {
		t.Run(tt.network+" "+tt.address, func(t *testing.T) {
			ln, err := ListenOn(t.Context(), tt.network, tt.address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			got := ln.Addr().(*net.TCPAddr).IP.String()
			if got != tt.want && tt.want != "::" { // which is 0.0.0.0 where there is no IPv6
				t.Errorf("it listens on %s", got)
			}
			dial(t, ln)
			if multipath, err := accept(t, ln).MultipathTCP(); multipath || err != nil {
				t.Errorf("the connection is one of Multipath TCP: %v, %v", multipath, err)
			}
		})
	}
}

func TestListenOnErrors(t *testing.T) {
	for _, tt := range []struct {
		network, address string
		says             string
	}{
		{"udp", "127.0.0.1:0", "unknown network udp"},
		{"unixgram", "x", "unknown network unixgram"},
		{"tcp", "127.0.0.1", "missing port"},
		{"tcp", "127.0.0.1:99999", "invalid port"},
	} {
		ln, err := ListenOn(t.Context(), tt.network, tt.address)
		if err == nil {
			ln.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "cannot listen on "+tt.address+": ") || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %s: %v", tt.network, tt.address, err)
		}
	}
}
