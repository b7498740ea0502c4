// Package cli is what the programs share: configuration by arguments, the environment
// and a file, the help, completion and man pages that are made of its definitions,
// signals, how errors are told, and exit codes.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/accio-go/accio/transport"
)

// Exit codes of the programs.
const (
	ExitFailed = 1 // what was asked for could not be done
	ExitUsage  = 2 // the arguments, the environment or the file of --config make no sense
)

// Exit returns err with the exit code that a program which ends because of it
// has; without one it is ExitFailed.
func Exit(code int, err error) error { return &exitError{code, err} }

type exitError struct {
	code int
	error
}

func (e *exitError) Unwrap() error { return e.error }

// Version is set by the linker; otherwise the module's is shown.
var Version string

// Command is a program: a pointer to a struct with the arguments as kong has
// them, and what to do with them. A SIGINT, SIGTERM or SIGQUIT cancels ctx.
type Command interface {
	Run(ctx context.Context) error
}

var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}

// The first thread is for nothing but the main goroutine, which waits in Main. The
// system gives it all signals, also while it waits for a disk in a way that no signal
// ends (complete_signal in kernel/signal.c of Linux): an fsync of 30 seconds there would
// keep a stop from being noticed for as long.
func init() { runtime.LockOSThread() }

// Main reads the arguments of the process into cmd, as [Parse] does, runs it and exits. A
// program that was installed and started as accio-NAME calls itself so.
func Main(cmd Command, p Program) {
	p = p.as(os.Args[0])
	// For good: one more signal while the program ends is to change nothing.
	ctx, _ := signal.NotifyContext(context.Background(), stopSignals...)
	// A write to a pipe that nobody reads is to be an error, not the end. To ignore the
	// signal would do as well, but that is inherited by programs that this one starts.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	done := make(chan error, 1)
	go func() { done <- Parse(cmd, p, os.Args[1:]) }()
	if err := parsed(ctx, done); err != nil {
		exit(err)
	}
	run := cmd.Run
	stop := func() {}
	if c, ok := cmd.(Checker); ok && c.Checking() {
		run = func(ctx context.Context) error { return check(ctx, c, p) }
	} else if l, ok := cmd.(interface{ start(io.Writer) func() }); ok { // Logs
		stop = l.start(os.Stderr)
	}
	go func() { done <- run(ctx) }()
	err := <-done
	stop()
	exit(err)
}

// parsed waits for Parse. What --config names can be a pipe that nobody writes: after a
// signal there is an end to that, too.
func parsed(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lastMoment):
		return errors.New("stopped before the configuration was read")
	}
}

// BuildVersion is the version of the program that runs.
func BuildVersion() string {
	if info, ok := debug.ReadBuildInfo(); Version == "" && ok {
		return info.Main.Version
	}
	return Version
}

// UserAgent is what a program calls itself where it speaks HTTP (RFC 9110, 10.1.5).
func UserAgent(program string) string {
	if v := BuildVersion(); v != "" && v != "(devel)" {
		return "accio-" + program + "/" + v
	}
	return "accio-" + program
}

// exit ends the process as err has it.
func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	if !unread(err) {
		Complain(err)
	}
	code := ExitFailed
	if e := (*exitError)(nil); errors.As(err, &e) {
		code = e.code
	}
	os.Exit(code)
}

// quoteNegative has an argument such as -1 taken for what it is meant to be, the
// (wrong) value of the flag before it or a (wrong) port, and not for a flag that does
// not exist.
func quoteNegative(args []string) []string {
	for i, arg := range args {
		if len(arg) < 2 || arg[0] != '-' || strings.IndexByte(".0123456789", arg[1]) < 0 {
			continue
		}
		if i > 0 && len(args[i-1]) > 2 && strings.HasPrefix(args[i-1], "--") && !strings.Contains(args[i-1], "=") {
			return slices.Concat(args[:i-1], []string{args[i-1] + "=" + arg}, args[i+1:])
		}
		if strings.Trim(arg[1:], "0123456789") == "" {
			return slices.Insert(slices.Clone(args), i, "--")
		}
	}
	return args
}

// Port is an argument that is the number of a TCP port.
type Port uint16

// UnmarshalText reads a port, as transport.ParsePort does.
func (p *Port) UnmarshalText(text []byte) error {
	n, err := transport.ParsePort(string(text))
	*p = Port(n)
	return err
}
