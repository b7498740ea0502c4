package serve

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/transport"
)

// listen listens on port, or uses the socket that the service manager passes
// (systemd.socket(5)).
func listen(ctx context.Context, port cli.Port) (net.Listener, error) {
	ln, err := passed(port)
	if ln == nil && err == nil {
		return transport.Listen(ctx, uint16(port))
	}
	return ln, err
}

// passed returns the socket that the service manager passes, or nil. It must be one TCP
// socket of the same port. A second call returns nil.
func passed(port cli.Port) (net.Listener, error) {
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
		return nil, fmt.Errorf("the service manager passed %d sockets, but the server needs one: use one ListenStream=", len(files))
	}
	ln, err := transport.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("cannot serve the service manager's socket: %w", err)
	}
	if listening := ln.Addr().(*net.TCPAddr).Port; listening != int(port) {
		ln.Close()
		return nil, fmt.Errorf("the service manager listens on %v, but PORT is %d: use the same port", ln.Addr(), port)
	}
	return ln, nil
}

// checkPort returns an error if the server may not listen on the port, or cannot use
// the service manager's socket. A port in use is no error: the running server may have
// it. Only Unix systems check this.
func checkPort(port cli.Port) error {
	ln, err := passed(port)
	if err != nil {
		return err
	}
	if ln != nil {
		return ln.Close()
	}
	if err := bind(uint16(port)); err != nil {
		return fmt.Errorf("cannot listen on port %d: %w", port, err)
	}
	return nil
}

// managed reports whether a service manager expects state notifications (sd_notify(3)).
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// notify sends a state to the service manager. It ignores errors, since the manager
// reports missing states itself. It does not wait for a manager that does not read, as
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

// notifyReady reports that the program serves, also after a reload.
func notifyReady(ln net.Listener) {
	notify(fmt.Sprintf("%s\nSTATUS=Listening on %v", daemon.SdNotifyReady, ln.Addr()))
}

// notifyReloading reports a reload, which notifyReady ends.
func notifyReloading() {
	notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

func notifyStopping(atMost time.Duration) {
	notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, atMost.Microseconds()))
}

func notifyDraining(left int) {
	notify(fmt.Sprintf("STATUS=Stopping; connections left: %d", left))
}

// keepAlive makes srv notify the watchdog of the service manager, if it has one.
func keepAlive(ctx context.Context, srv *transport.Server) {
	timeout, err := daemon.SdWatchdogEnabled(true)
	if err != nil || timeout <= 0 {
		return
	}
	srv.AliveInterval = timeout / 2
	srv.OnAlive = func(open int) {
		state := daemon.SdNotifyWatchdog
		if ctx.Err() == nil {
			state += fmt.Sprintf("\nSTATUS=Connections: %d", open)
		}
		notify(state)
	}
}
