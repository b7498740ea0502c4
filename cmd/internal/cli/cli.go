// Package cli is what the programs share: arguments, signals, how errors are
// told, and exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/accio-go/accio/transport"
)

// Exit codes of the programs.
const (
	ExitFailed = 1 // what was asked for could not be done
	ExitUsage  = 2 // the arguments make no sense
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

// Flags are the flags that every program has, to be embedded in its Command.
type Flags struct {
	Version kong.VersionFlag `help:"Print the version and exit."`
}

// Command is a program: a pointer to a struct with the arguments as kong has
// them, and what to do with them. A SIGINT, SIGTERM or SIGQUIT cancels ctx.
type Command interface {
	Run(ctx context.Context) error
}

// Main reads the arguments of the process into cmd, runs it and exits.
func Main(cmd Command, name, description string) {
	// For good: one more signal while the program ends is to change nothing.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	// A write to a pipe that nobody reads is to be an error, not the end.
	signal.Ignore(syscall.SIGPIPE)

	version := Version
	if info, ok := debug.ReadBuildInfo(); version == "" && ok {
		version = info.Main.Version
	}
	parser := kong.Must(cmd, kong.Name(name), kong.Description(description), kong.Vars{"version": name + " " + version})
	if _, err := parser.Parse(quoteNegative(os.Args[1:])); err != nil {
		Complain(fmt.Errorf("%w; see %s --help", err, name))
		os.Exit(ExitUsage)
	}
	exit(cmd.Run(ctx))
}

// exit ends the process as err has it.
func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	Complain(err)
	code := ExitFailed
	if e := (*exitError)(nil); errors.As(err, &e) {
		code = e.code
	}
	os.Exit(code)
}

// quoteNegative has an argument such as -1 taken for what it is meant to be, a
// (wrong) port, and not for a flag that does not exist.
func quoteNegative(args []string) []string {
	for i, arg := range args {
		if len(arg) > 1 && arg[0] == '-' && strings.Trim(arg[1:], "0123456789") == "" {
			return slices.Insert(slices.Clone(args), i, "--")
		}
	}
	return args
}

// Complain tells the user of err, in one line on standard error. What a terminal
// would not show, but obey, is escaped.
func Complain(err error) {
	var text strings.Builder
	for _, r := range strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ") {
		if strconv.IsPrint(r) {
			text.WriteRune(r)
		} else {
			text.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	fmt.Fprintf(os.Stderr, "ERROR: %s\n", text.String())
}

// Port is an argument that is the number of a TCP port.
type Port uint16

// UnmarshalText reads a port, as transport.ParsePort does.
func (p *Port) UnmarshalText(text []byte) error {
	n, err := transport.ParsePort(string(text))
	*p = Port(n)
	return err
}
