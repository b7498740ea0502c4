package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/accio-go/accio/cmd/internal/cli"
)

// reloader calls functions at each SIGHUP. With no function and no service manager, a
// SIGHUP ends the program, as when a terminal is closed.
type reloader struct {
	logs    *Logs
	reloads []reload
	signals chan os.Signal // nil: SIGHUP is not caught
}

// A reload returns the values now in force, as arguments of a log record. err is the
// reason why the other values did not change.
type reload func() (inForce []any, err error)

func (r *reloader) add(f reload) {
	r.reloads = append(r.reloads, f)
	r.catch()
}

// catch keeps the first of the SIGHUPs for run. It is never undone: a SIGHUP must not
// change a stop that is under way.
func (r *reloader) catch() {
	if r.signals == nil {
		r.signals = make(chan os.Signal, 1)
		signal.Notify(r.signals, syscall.SIGHUP)
	}
}

// addConfig reads the configuration again at each SIGHUP, if there is a file. Only the
// level of the log can change.
func (r *reloader) addConfig(running *cli.FlagSet, fresh func() cli.Command) {
	if running.ConfigFile() == "" {
		return
	}
	r.add(func() (inForce []any, err error) {
		next, err := running.Reread(fresh())
		if err != nil {
			return nil, err
		}
		if err := r.logs.Follow(Logs{LogLevel: next.Value("log-level"), LogFormat: next.Value("log-format")}); err != nil {
			return nil, fmt.Errorf("%s: %w", running.ConfigFile(), err)
		}
		if r.logs.On() {
			inForce = []any{"log_level", r.logs.Level()}
		}
		changed := slices.DeleteFunc(running.Changes(next), func(key string) bool { return strings.HasPrefix(key, "log-") })
		if len(changed) > 0 {
			err = fmt.Errorf("%s: restart the program to change %s; only log-level can change while it runs", running.ConfigFile(), strings.Join(changed, ", "))
		}
		return inForce, err
	})
}

// run reloads at each SIGHUP until stop, which waits for a reload under way. It reports
// reloads to the service manager until ctx is done: from then on, the state is a stop.
func (r *reloader) run(ctx context.Context, ln net.Listener) (stop func()) {
	if managed() {
		r.catch()
	}
	if r.signals == nil {
		return func() {}
	}
	stopped, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-r.signals:
			case <-stopped:
				return
			}
			if ctx.Err() == nil {
				notifyReloading()
			}
			r.reload()
			if ctx.Err() == nil {
				notifyReady(ln)
			}
		}
	}()
	return func() {
		close(stopped)
		<-over
	}
}

// reload calls all functions, and reports the result in one record or line.
func (r *reloader) reload() {
	var inForce []any
	var errs []error
	for _, f := range r.reloads {
		now, err := f()
		inForce, errs = append(inForce, now...), append(errs, err)
	}
	err := errors.Join(errs...)
	switch {
	case len(r.reloads) == 0:
		cli.Log().Info("nothing to reload")
	case err == nil:
		cli.Log().Info("reloaded", inForce...)
	default:
		message := "not reloaded"
		if len(inForce) > 0 {
			message = "reloaded in part"
		}
		if !r.logs.On() {
			err = fmt.Errorf("%s: %w", message, err)
		}
		cli.Log().Error(message, append(inForce, "cause", err)...)
	}
}
