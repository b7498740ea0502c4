package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Listen listens for TCP connections on the port of every IPv4 address of the
// machine (0.0.0.0). Connections that nobody has accepted yet wait in the
// kernel's queue, as many as the system allows (net.core.somaxconn on Linux,
// 4096 as it comes); a port that a program has just left can be taken at once. A
// byte that a peer sends as urgent is one of the stream like any other. Keep-alive
// ends a connection whose peer cannot be reached for two and a half minutes.
//
// The error says what to do, and is syscall.EADDRINUSE or syscall.EACCES for
// errors.Is where it is one of those. ctx bounds the call only. The caller
// closes the listener; [Server.Serve] does.
func Listen(ctx context.Context, port uint16) (net.Listener, error) {
	return ListenOn(ctx, "tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port))))
}

// ListenOn listens as [Listen] does, on an address that is written as for net.Listen:
// "tcp", "tcp4" or "tcp6" with a host and a port (no host: every address; port 0: the
// system chooses one), or "unix" with the path of a socket.
//
// A Unix socket that a program which was killed has left is replaced: one to which
// nobody can connect, since nobody listens there. (Two programs that begin at the same
// moment may both find it so, and have no other arrangement of whose it is.) Anything
// else under the path, and a socket that is in use, are a syscall.EADDRINUSE. Who may
// connect is a matter of the socket's mode, which is 0777 less the umask, and of the
// directory. The socket is removed when the listener is closed.
//
// A Unix connection cannot be reset (unix(7)): what is sent into it may end in the same way whether
// it was received well or not. Who has to know is told by a last word of the protocol.
func ListenOn(ctx context.Context, network, address string) (net.Listener, error) {
	var ln net.Listener
	var err error
	switch network {
	case "tcp", "tcp4", "tcp6":
		lc := net.ListenConfig{Control: inherit, KeepAlive: perConn}
		// Go listens for Multipath TCP where the kernel has it. Its sockets lack
		// what is wanted of TCP's (MSG_TRUNC drops nothing there), and nobody who
		// has one path to the server gains by it.
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(ctx, network, address)
	case "unix":
		ln, err = listenUnix(ctx, address)
	default:
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		return ln, nil
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && network == "unix":
		hint = ": stop the program that uses it, or choose another path"
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": stop the program that uses the port, or choose another"
	case errors.Is(err, syscall.EACCES) && network == "unix":
		hint = ": choose a path in a directory that may be written"
	case errors.Is(err, syscall.EACCES):
		hint = ": choose a port of 1024 or more, or run with the right to use this one"
	}
	// The system's own words for the rest are in the OpError: "listen tcp4 …".
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("cannot listen on %s: %w%s", address, err, hint)
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && left(ctx, path) && os.Remove(path) == nil {
		ln, err = lc.Listen(ctx, "unix", path)
	}
	return ln, err
}

// left reports whether path is a socket that nobody listens on.
func left(ctx context.Context, path string) bool {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != os.ModeSocket {
		return false
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// FileListener accepts connections from a TCP socket that somebody else has opened and
// listens on, as systemd does (sd_listen_fds(3)): on whatever address that is, of IPv4,
// IPv6 or both. Its connections are like those of [Listen].
//
// A socket that is not TCP's, that of Multipath TCP, and one that does not listen are
// errors. The caller closes f, which may be at once, and the listener; to close it
// ends neither the socket, as long as another process has it, nor the connections that
// wait in its queue: they are left to who accepts next.
func FileListener(f *os.File) (net.Listener, error) {
	if err := checkListener(f); err != nil {
		return nil, fmt.Errorf("cannot accept connections from %s: %w", f.Name(), err)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot accept connections from %s: %w", f.Name(), err)
	}
	return fileListener{ln}, nil
}

// fileListener is a listener whose connections may have come before anybody could set
// what they are to inherit. Package net sets keep-alive for each, to what Listen has it.
type fileListener struct{ net.Listener }

func (ln fileListener) Accept() (net.Conn, error) {
	conn, err := ln.Listener.Accept()
	if err == nil {
		makeInline(conn)
	}
	return conn, err
}
