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

// Listen listens for TCP connections on a port of all IPv4 addresses (0.0.0.0).
//
// The listen backlog is as long as the system allows (net.core.somaxconn on Linux). A port
// that a program has just left is free at once. Urgent bytes are part of the stream.
// Keep-alive ends a connection whose peer is unreachable for two and a half minutes.
//
// The error says how to solve the problem, and wraps syscall.EADDRINUSE or syscall.EACCES.
// ctx bounds the call only. The caller closes the listener, unless [Server.Serve] does.
func Listen(ctx context.Context, port uint16) (net.Listener, error) {
	return ListenOn(ctx, "tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port))))
}

// ListenOn listens as [Listen] does, on an address written as for net.Listen.
//
// The network is "tcp", "tcp4" or "tcp6" with a host and a port (no host: every address;
// port 0: the system chooses), or "unix" with the path of a socket.
//
// ListenOn replaces a Unix socket that a killed program has left, on which nothing
// listens. (Two programs that start at the same moment may both replace it.) For a socket
// in use, and any other file, it returns syscall.EADDRINUSE. The mode of the socket is
// 0777 less the umask. Closing the listener removes the socket.
//
// A Unix connection cannot be reset (unix(7)), so a client cannot tell a failure from a
// success by how the connection ends. The protocol must confirm success.
func ListenOn(ctx context.Context, network, address string) (net.Listener, error) {
	var ln net.Listener
	var err error
	switch network {
	case "tcp", "tcp4", "tcp6":
		lc := net.ListenConfig{Control: inherit, KeepAlive: perConn}
		// Go uses Multipath TCP where the kernel has it. MSG_TRUNC does not
		// discard data on its sockets.
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
	// Replace the prefix of the OpError: "listen tcp4 …".
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

// left reports whether path is a socket on which nothing listens.
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

// FileListener returns a listener for an inherited TCP socket that listens already, such
// as one of systemd (sd_listen_fds(3)). Its connections are like those of [Listen].
//
// The error says if f is not a TCP socket, is of Multipath TCP, or does not listen. The
// caller closes f, at any time, and the listener. While another process has the socket
// open, closing the listener keeps the socket and the connections in its backlog.
func FileListener(f *os.File) (net.Listener, error) {
	err := checkListener(f)
	if err == nil {
		var ln net.Listener
		if ln, err = net.FileListener(f); err == nil {
			return fileListener{ln}, nil
		}
	}
	return nil, fmt.Errorf("cannot accept connections from %s: %w", f.Name(), err)
}

// fileListener sets options on each connection, which may be older than those of the
// listener. Package net enables keep-alive, as Listen does.
type fileListener struct{ net.Listener }

func (ln fileListener) Accept() (net.Conn, error) {
	conn, err := ln.Listener.Accept()
	if err == nil {
		makeInline(conn)
	}
	return conn, err
}
