// Package cli is the command line of the programs. It has flags, the environment,
// the configuration file, help, man pages, completion, logs, signals and exit
// codes.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/accio-go/accio/transport"
)

// Exit codes of the programs.
const (
	ExitFailed = 1
	ExitUsage  = 2 // wrong arguments, environment or configuration file
)

// Exit returns err with the exit code of a program that ends because of it. Without
// a code it is ExitFailed.
func Exit(code int, err error) error { return &exitError{code, err} }

type exitError struct {
	code int
	error
}

func (e *exitError) Unwrap() error { return e.error }

// Version is set by the linker. Otherwise the version of the module counts.
var Version string

// Command is a program. Flags adds its flags and arguments. SIGINT, SIGTERM and SIGQUIT
// cancel the context of Run. A Command can have more methods:
//
//	Validate() error                     called when the flags are set
//	StartLog(io.Writer) (stop func())    called before Run, and stop after it
//
// See also [Checker].
type Command interface {
	Flags(*FlagSet)
	Run(context.Context) error
}

// StopSignals are the signals that stop a program.
var StopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}

// LastMoment is the time from a signal to the exit, even if the program hangs.
const LastMoment = 950 * time.Millisecond

// The main goroutine, which waits in Main, keeps the first thread for itself. Linux
// delivers all signals to that thread (complete_signal in kernel/signal.c), even while it
// sleeps uninterruptibly: a long fsync there would delay a stop.
func init() { runtime.LockOSThread() }

// Main parses the arguments of the process into cmd, runs it and exits. A program that a
// package installed as accio-NAME has that name.
func Main(cmd Command, p Program) {
	p = p.as(os.Args[0])
	if len(os.Args) > 1 && (os.Args[1] == cobra.ShellCompRequestCmd || os.Args[1] == cobra.ShellCompNoDescRequestCmd) {
		newFlagSet(cmd, p).completer().Execute()
		return
	}
	// Never undone: a second signal must not change a stop that is under way.
	ctx, _ := signal.NotifyContext(context.Background(), StopSignals...)
	// A write to a closed pipe must fail, not end the program. Child processes would
	// inherit an ignored SIGPIPE.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	var f *FlagSet
	done := make(chan error, 1)
	go func() {
		var err error
		f, err = Parse(cmd, p, os.Args[1:])
		done <- err
	}()
	if err := parsed(ctx, done); err != nil {
		exit(err)
	}
	run := cmd.Run
	stop := func() {}
	if f.check {
		run = func(ctx context.Context) error { return f.runCheck(ctx, cmd.(Checker)) }
	} else if l, ok := cmd.(interface{ StartLog(io.Writer) func() }); ok { // serve.Logs
		stop = l.StartLog(os.Stderr)
	}
	go func() { done <- run(ctx) }()
	err := <-done
	stop()
	exit(err)
}

// parsed waits for Parse. The configuration file can be a pipe without a writer, so
// after a signal the wait is bounded.
func parsed(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(LastMoment):
		return errors.New("stopped before the configuration was read")
	}
}

// EndInTime ends the program within a second after ctx is cancelled, even if a disk, a pipe
// or a terminal hangs. The exit code is 0, or the code of err. The kernel then resets the
// remaining connections, as stage.Serve and send.Sender have arranged.
func EndInTime(ctx context.Context, err error) {
	context.AfterFunc(ctx, func() { time.AfterFunc(LastMoment, func() { exit(err) }) })
}

// BuildVersion returns the version of the running program.
func BuildVersion() string {
	if info, ok := debug.ReadBuildInfo(); Version == "" && ok {
		return info.Main.Version
	}
	return Version
}

// UserAgent returns the name of a program in HTTP requests (RFC 9110, 10.1.5).
func UserAgent(program string) string {
	if v := BuildVersion(); v != "" && v != "(devel)" {
		return "accio-" + program + "/" + v
	}
	return "accio-" + program
}

// exit ends the process. It prints err, and takes the exit code from it.
func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	if !readerGone(err) {
		Complain(err)
	}
	code := ExitFailed
	if e := (*exitError)(nil); errors.As(err, &e) {
		code = e.code
	}
	os.Exit(code)
}

// Port is the number of a TCP port.
type Port uint16

// UnmarshalText reads a port, as transport.ParsePort does.
func (p *Port) UnmarshalText(text []byte) error {
	n, err := transport.ParsePort(string(text))
	*p = Port(n)
	return err
}
