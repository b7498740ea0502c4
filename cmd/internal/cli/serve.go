package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// grace is how long a stop waits for connections to end that it has interrupted. A program is to be
// gone within a second of a signal, and there is more to be done than wait.
const grace = 650 * time.Millisecond

// lastMoment is when, after a signal, a program ends whatever it is doing.
const lastMoment = 950 * time.Millisecond

// EndInTime sees to it that a disk, a pipe or a terminal that hangs does not keep
// a program from ending within a second after ctx is cancelled: with exit code 0,
// or as Main ends with err. The system resets the connections that are left then,
// as stage.Serve and stage.Sender have arranged.
func EndInTime(ctx context.Context, err error) {
	context.AfterFunc(ctx, func() { time.AfterFunc(lastMoment, func() { exit(err) }) })
}

// draining returns what tells whoever watches how a drain gets on, which may take so long;
// see transport.Server.OnDrain.
func draining(atMost time.Duration) func(left int, done bool) {
	var begun time.Time
	return func(left int, done bool) {
		switch log := Log(); {
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

// Serve serves the connections of ln, which it closes, through h as srv has it until
// ctx is cancelled, and returns nil then. A failure of one connection that somebody
// should know of is told to the user; one that the program cannot live with
// ends Serve and is returned. A SIGHUP reloads as r has it. The service manager is told when
// the server is ready, and that it is alive.
func Serve(ctx context.Context, ln net.Listener, srv transport.Server, h stage.Handler, r *Reloader) error {
	watch(ctx, &srv)
	srv.OnDrain = draining(srv.Drain)
	defer r.run(ctx, ln)()
	notifyReady(ln)
	ctx, stop := context.WithCancelCause(ctx)
	var over atomic.Bool // what fails from now on does so because the program ends
	defer over.Store(true)
	srv.Grace = grace
	srv.OnError = ComplainOf("server error")
	tell, tellNoSpace := Complain, ComplainOf("no space left")
	if logger.Load() != nil {
		tell = func(error) {} // the log has all connections, by [Logs.Stage]
		tellNoSpace = tell
	}
	stopping := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopping)
		Log().Info("stopping")
	})
	srv.Handler = transport.SessionHandler(func(ctx context.Context, conn net.Conn, number uint64) transport.Session {
		return stage.NewSession(ctx, conn, number, h, func(err error) {
			if over.Load() {
				return
			}
			switch stage.OutcomeOf(err, 0) {
			case stage.OutcomeReport:
				stop(err)
			case stage.OutcomeStorage, stage.OutcomeConflict:
				tell(err)
			case stage.OutcomeNoSpace:
				tellNoSpace(fmt.Errorf("connection %d: %w", number, err))
			}
		})
	})
	err := srv.Serve(ctx, ln)
	stop(nil)
	<-stopping
	Log().Info("stopped")
	if cause := context.Cause(ctx); errors.Is(cause, stage.ErrReport) {
		return cause
	}
	if errors.Is(err, transport.ErrUnfinished) {
		return nil // the signal's word counts for more
	}
	return err
}
