package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	lc := net.ListenConfig{Control: inherit, KeepAlive: perConn}
	// Go listens for Multipath TCP where the kernel has it. Its sockets lack
	// what is wanted of TCP's (MSG_TRUNC drops nothing there), and nobody who
	// has one path to the server gains by it.
	lc.SetMultipathTCP(false)
	addr := net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port)))
	ln, err := lc.Listen(ctx, "tcp4", addr)
	if err == nil {
		return ln, nil
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": stop the program that uses the port, or choose another"
	case errors.Is(err, syscall.EACCES):
		hint = ": choose a port of 1024 or more, or run with the right to use this one"
	}
	// The system's own words for the rest are in the OpError: "listen tcp4 …".
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("cannot listen on %s: %w%s", addr, err, hint)
}
