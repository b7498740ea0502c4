// Package serve is the shared part of both servers: flags, logs, listening,
// stopping, reloading, and reports to a service manager.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/cmd/internal/admin"
	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// grace bounds the wait of a stop for interrupted connections. The program must end
// within a second of a signal.
const grace = 650 * time.Millisecond

// Server holds the flags of both servers.
type Server struct {
	Port cli.Port
	Limits
	TLS
	Proxies
	Logs
	Admin admin.Options

	flags *cli.FlagSet
}

// Flags adds the flags.
func (s *Server) Flags(f *cli.FlagSet) {
	s.flags = f
	f.Argument(cli.Text(&s.Port), "PORT", "TCP port to listen on, from 1 to 65535.")
	s.Limits.Flags(f)
	s.TLS.Flags(f)
	s.Proxies.Flags(f)
	s.Logs.Flags(f)
	s.Admin.Flags(f)
}

// Validate returns an error if the flags do not fit together.
func (s *Server) Validate() error {
	if err := s.Admin.ValidateAdmin(s.Port); err != nil {
		return err
	}
	if _, err := s.networks(); err != nil {
		return err
	}
	return s.TLS.validate()
}

// Check returns the reasons why Start would fail. A port in use is no reason.
func (s *Server) Check(ctx context.Context) error {
	return errors.Join(checkPort(s.Port), s.TLS.check(), s.Admin.Check(ctx))
}

// Run is a server that listens.
type Run struct {
	Stopped context.Context // done at a signal
	Drained <-chan struct{} // closed when a stop no longer waits for clients; nil without --drain

	program string
	server  *Server
	reload  reloader
	secure  stage.Chain
	ln      net.Listener
	adminLn net.Listener
	watch   *admin.Server
	release func()
}

// Start listens on the port and the admin address. Connections wait for [Run.Serve].
// A SIGHUP reads the configuration into a fresh Command. The caller calls Close.
func (s *Server) Start(ctx context.Context, program string, fresh func() cli.Command) (_ *Run, err error) {
	over, release := s.stopping(ctx)
	cli.EndInTime(over, nil)
	r := &Run{Stopped: ctx, program: program, server: s, reload: reloader{logs: &s.Logs}, release: release}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if s.Drain > 0 {
		r.Drained = over.Done()
	}
	r.reload.addConfig(s.flags, fresh)
	// With a wrong certificate the port must not open.
	if r.secure, err = s.TLS.stage(s.HandshakeTimeout, &r.reload); err != nil {
		return nil, err
	}
	if r.ln, err = listen(ctx, s.Port); err != nil {
		return nil, err
	}
	if r.adminLn, err = s.Admin.Listen(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Close closes the listeners.
func (r *Run) Close() {
	for _, ln := range []net.Listener{r.ln, r.adminLn} {
		if ln != nil {
			ln.Close()
		}
	}
	r.release()
}

// StartAdmin starts the admin address, if there is one. It completes config. The caller
// closes the result.
func (r *Run) StartAdmin(config admin.Config) *admin.Server {
	config.Program, config.Version = r.program, cli.BuildVersion()
	config.Limits = append(r.server.inForce(), config.Limits...)
	config.OnError = cli.ComplainOf("admin error")
	r.watch = r.server.Admin.Start(r.Stopped, r.adminLn, config)
	return r.watch
}

// Observe returns the stages that find the address of the client and count connections.
// Call StartAdmin first.
func (r *Run) Observe() stage.Stage {
	return r.watch.Stage(r.server.Proxies.Stage(r.server.IdleTimeout, r.server.HandshakeTimeout))
}

// Protocol returns the limits, TLS and the handshake.
func (r *Run) Protocol() stage.Stage { return r.server.Stages(r.secure) }

// Serve serves connections by the chain until a signal, and then returns nil. Errors of
// storage are shown to the user. A failed report on standard output ends Serve. The
// attributes describe the server in the log.
func (r *Run) Serve(srv transport.Server, chain stage.Chain, attrs ...any) error {
	s := r.server
	cli.Log().Info("listening", append([]any{"address", r.ln.Addr(), "tls", s.TLSCert != "", "limits", &s.Limits, "admin", r.watch, "proxy_protocol", &s.Proxies}, attrs...)...)
	srv.Drain, srv.DrainNow, srv.OnDrain = s.Drain, r.Drained, draining(s.Drain)
	srv.Grace, srv.OnError = grace, cli.ComplainOf("server error")
	keepAlive(r.Stopped, &srv)
	defer r.reload.run(r.Stopped, r.ln)()
	notifyReady(r.ln)

	ctx, stop := context.WithCancelCause(r.Stopped)
	stopping := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopping)
		cli.Log().Info("stopping")
	})
	var over atomic.Bool // later errors are due to the end of the program
	defer over.Store(true)
	handler := stage.Chain{s.Logs.Stage(), chain}.Then(stage.Receive)
	srv.Handler = func(ctx context.Context, conn net.Conn, number uint64) {
		err := stage.Serve(ctx, conn, number, handler)
		if errors.Is(err, stage.ErrReport) && !over.Load() {
			stop(err)
		} else if !over.Load() && !s.Logs.On() { // the log has all connections
			complain(number, err)
		}
	}
	err := srv.Serve(ctx, r.watch.Listener(r.ln))
	stop(nil)
	<-stopping
	cli.Log().Info("stopped")
	if cause := context.Cause(ctx); errors.Is(cause, stage.ErrReport) {
		return cause
	}
	if errors.Is(err, transport.ErrUnfinished) {
		return nil // the signal has priority
	}
	return err
}

// complain shows errors of storage to the user.
func complain(number uint64, err error) {
	switch {
	case errors.Is(err, stage.ErrStorage), errors.Is(err, stage.ErrConflict):
		cli.Complain(err)
	case errors.Is(err, stage.ErrNoSpace):
		cli.ComplainOf("no space left")(fmt.Errorf("connection %d: %w", number, err))
	}
}

// draining returns a function that reports the progress of a drain; see
// transport.Server.OnDrain.
func draining(atMost time.Duration) func(left int, done bool) {
	var begun time.Time
	return func(left int, done bool) {
		switch log := cli.Log(); {
		case begun.IsZero():
			begun = time.Now()
			log.Info("draining", "connections_left", left, "at_most", atMost)
		case !done:
			log.Info("still draining", "connections_left", left)
		case left == 0:
			log.Info("drained", "duration", time.Since(begun))
		default:
			log.Warn("drain cut off", "connections_aborted", left, "duration", time.Since(begun))
		}
		notifyDraining(left)
	}
}
