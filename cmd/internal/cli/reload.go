package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
)

// Reloader has what a user has configured be read again at a SIGHUP, while the program
// goes on. The zero value has nothing to reload: then, and if no service
// manager has started the program, a SIGHUP ends it, as it does when a terminal is
// closed. It is for one goroutine.
type Reloader struct {
	reloads []func() ([]any, error)
	signals chan os.Signal // nil: a SIGHUP is not caught
}

// OnReload has f called at each SIGHUP from when the server serves, after those
// registered before, by one goroutine. It returns what is in force now, as the arguments of
// a log's record, and why the rest is not: for that, the state has to be that from before.
// The user is told of both. The other functions are called all the same. From OnReload on, a
// SIGHUP does not end the program.
func (r *Reloader) OnReload(f func() (inForce []any, err error)) {
	r.reloads = append(r.reloads, f)
	r.catch()
}

// Reconfigurable is a Command that embeds [Flags] and [Logs].
type Reconfigurable interface {
	Command
	ConfigFile() string
	LogFlags() *Logs
}

// ConfigFile is the name of the file of --config, or empty.
func (f *Flags) ConfigFile() string { return f.Config }

// LogFlags returns l.
func (l *Logs) LogFlags() *Logs { return l }

// OnConfig has the file of --config, if there is one, be read again at a SIGHUP. fresh
// returns a new Command of the type of running, which is a pointer to a struct. The log
// takes the level that is set then; that anything else has changed is an error that says
// so.
func (r *Reloader) OnConfig(running Reconfigurable, fresh func() Reconfigurable, p Program) {
	if running.ConfigFile() == "" {
		return
	}
	r.OnReload(func() (inForce []any, err error) {
		next := fresh()
		if err := Parse(next, p, os.Args[1:]); err != nil {
			return nil, err
		}
		if err := running.LogFlags().Follow(next.LogFlags()); err != nil {
			return nil, fmt.Errorf("%s: %w", running.ConfigFile(), err)
		}
		if next.LogFlags().on() {
			inForce = []any{"log_level", strings.ToLower(logLevel.Level().String())}
		}
		*next.LogFlags() = *running.LogFlags()
		changed, err := differ(running, next, p)
		if err == nil && len(changed) > 0 {
			err = fmt.Errorf("%s: only log-level can change while the program runs; restart it for %s", running.ConfigFile(), strings.Join(changed, ", "))
		}
		return inForce, err
	})
}

// differ returns the keys of what is set differently in two commands of the same type.
func differ(a, b Command, p Program) (keys []string, err error) {
	ofA, err := newParser(a, p)
	if err != nil {
		return nil, err
	}
	ofB, err := newParser(b, p)
	if err != nil {
		return nil, err
	}
	other := values(ofB)
	for i, v := range values(ofA) {
		if settable(v) && !reflect.DeepEqual(v.Target.Interface(), other[i].Target.Interface()) {
			keys = append(keys, keyName(v))
		}
	}
	return keys, nil
}

// catch has the first of the SIGHUPs that come be remembered, for good: one that
// comes while the program ends is to change nothing.
func (r *Reloader) catch() {
	if r.signals == nil {
		r.signals = make(chan os.Signal, 1)
		signal.Notify(r.signals, syscall.SIGHUP)
	}
}

// run reloads at each SIGHUP until stop, which waits for what is under way. The service
// manager is told, if ctx is not done: then it has been told of a stop.
func (r *Reloader) run(ctx context.Context, ln net.Listener) (stop func()) {
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

// reload calls all functions, and tells what has come of it in one record or line.
func (r *Reloader) reload() {
	var inForce []any
	var errs []error
	for _, f := range r.reloads {
		now, err := f()
		inForce, errs = append(inForce, now...), append(errs, err)
	}
	err := errors.Join(errs...)
	message := "reloaded"
	switch {
	case len(r.reloads) == 0:
		message = "nothing to reload"
	case err != nil && len(inForce) > 0:
		message = "reloaded in part"
	case err != nil:
		message = "not reloaded"
	}
	switch l := logger.Load(); {
	case err == nil:
		Log().Info(message, inForce...)
	case l != nil:
		l.Error(message, append(inForce, "cause", err)...)
	default:
		plain.limited(message, fmt.Errorf("%s: %w", message, err))
	}
}
