package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/accio-go/accio/transport"
)

// Listen listens on port, or accepts the connections of the one socket that the service
// manager listens on for the program (systemd.socket(5)); that has to be a socket of TCP
// and of the same port.
func Listen(ctx context.Context, port Port) (net.Listener, error) {
	ln, err := passed(port)
	if ln == nil && err == nil {
		return transport.Listen(ctx, uint16(port))
	}
	return ln, err
}

// passed returns the socket of port that the service manager has passed, or nil if it has
// passed nothing. Who asks again is told nothing.
func passed(port Port) (net.Listener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if len(files) > 1 {
		return nil, fmt.Errorf("the service manager has passed %d sockets, and one can be served: give it one ListenStream=", len(files))
	}
	ln, err := transport.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("the service manager's socket cannot be served: %w", err)
	}
	if listening := ln.Addr().(*net.TCPAddr).Port; listening != int(port) {
		ln.Close()
		return nil, fmt.Errorf("the service manager listens on %v, and PORT is %d: give both the same", ln.Addr(), port)
	}
	return ln, nil
}

// managed reports whether a service manager wants to be told of the program's state
// (sd_notify(3)).
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// notify tells the service manager, if there is one, of the program's state, in lines
// as sd_notify(3) has them. That this fails is the manager's affair, which waits for what
// does not come and says so. If it does not listen, the program does not wait for it:
// daemon.SdNotify would.
func notify(state string) {
	if !managed() {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	conn.Write([]byte(state))
}

// notifyReady tells that the program is at work, or is so again after a reload.
func notifyReady(ln net.Listener) {
	notify(fmt.Sprintf("%s\nSTATUS=Listening on %v", daemon.SdNotifyReady, ln.Addr()))
}

// notifyReloading tells that a reload begins, which the next notifyReady ends.
func notifyReloading() {
	notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// notifyStopping tells that the program stops, which may take so long.
func notifyStopping(atMost time.Duration) {
	notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, atMost.Microseconds()))
}

// notifyDraining tells how many connections there still are while the program stops.
func notifyDraining(left int) {
	notify(fmt.Sprintf("STATUS=Stopping; connections left: %d", left))
}

// watch has the watchdog of the service manager, if it has one, be fed by srv for as long as
// that is alive.
func watch(ctx context.Context, srv *transport.Server) {
	patience, err := daemon.SdWatchdogEnabled(true)
	if err != nil || patience <= 0 {
		return
	}
	srv.Pulse = patience / 2
	srv.OnPulse = func(open int) {
		state := daemon.SdNotifyWatchdog
		if ctx.Err() == nil {
			state += fmt.Sprintf("\nSTATUS=Connections: %d", open)
		}
		notify(state)
	}
}
