package cli

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// Silence is how long a client may send nothing.
const Silence = 10 * time.Second

// grace is how long a stop waits for connections to end. A program is to be
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

// Serve serves the connections of ln, which it closes, through h until ctx is
// cancelled, and returns nil then. A failure of one connection that somebody
// should know of is told to the user; one that the program cannot live with
// ends Serve and is returned.
func Serve(ctx context.Context, ln net.Listener, scheduler transport.Scheduler, h stage.Handler) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var over atomic.Bool // what fails from now on does so because the program ends
	defer over.Store(true)
	srv := transport.Server{
		Scheduler: scheduler,
		Grace:     grace,
		OnError:   Complain,
		Handler: transport.HandlerFunc(func(ctx context.Context, conn net.Conn, number uint64) {
			err := stage.Serve(ctx, conn, number, h)
			switch {
			case over.Load():
			case errors.Is(err, stage.ErrReport):
				stop(err)
			case errors.Is(err, stage.ErrStorage):
				Complain(err)
			}
		}),
	}
	err := srv.Serve(ctx, ln)
	if cause := context.Cause(ctx); errors.Is(cause, stage.ErrReport) {
		return cause
	}
	if errors.Is(err, transport.ErrUnfinished) {
		return nil // the signal's word counts for more
	}
	return err
}
