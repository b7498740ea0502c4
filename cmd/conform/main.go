// Command conform grades programs that speak the Accio protocol, in whatever
// language they are written:
//
//	conform --server-s 'python3 server-s.py' --server 'python3 server.py' --client 'python3 client.py'
//
// It runs the commands it is given, as one would start them from a shell, and
// prints which criteria hold and which do not, with what was expected and what was
// seen. Any of the three may be left out. It exits with code 0 only if all required
// criteria hold.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/integration/conformance"
)

type program struct {
	cli.Flags
	ServerS  string        `name:"server-s" placeholder:"COMMAND" help:"How to start the server-s. The port is added."`
	Server   string        `placeholder:"COMMAND" help:"How to start the server. The port and a directory are added."`
	Client   string        `placeholder:"COMMAND" help:"How to start the client. Host, port and file are added."`
	List     bool          `help:"List the criteria, of the programs that are given or of all."`
	Markdown bool          `help:"List them as a table in Markdown."`
	Only     []string      `placeholder:"PATTERN" help:"Try only criteria whose names match, such as 'server/*-mib-*' or 'silence-*'. May be repeated."`
	Timeout  time.Duration `default:"2m" help:"How long one criterion may take."`
	Parallel int           `placeholder:"N" help:"How many criteria to try at the same time, besides those that only wait. It is twice the number of processors otherwise."`
	JSON     string        `name:"json" placeholder:"FILE" help:"Write the report as JSON, too. - is standard output, in place of the one for people."`
	JUnit    string        `name:"junit" placeholder:"FILE" help:"Write the report as JUnit XML, too. - is standard output, in place of the one for people."`
}

func main() {
	cli.Main(&program{}, "conform", "Grade programs that speak the Accio protocol: run them, and judge them from outside.")
}

// Validate refuses arguments that make no sense; kong calls it.
func (p *program) Validate(kctx *kong.Context) error {
	list := p.List || p.Markdown
	if len(p.commands()) == 0 && !list {
		return fmt.Errorf("give at least one of --server-s, --server and --client, or --list")
	}
	if list && (p.JSON != "" || p.JUnit != "") {
		return fmt.Errorf("--list makes no report")
	}
	if p.JSON == "-" && p.JUnit == "-" {
		return fmt.Errorf("only one report can be written to standard output")
	}
	if p.Timeout <= 0 {
		return fmt.Errorf("--timeout is to be more than nothing, not %v", p.Timeout)
	}
	if p.Parallel < 0 {
		return fmt.Errorf("--parallel is to be 1 or more, not %d", p.Parallel)
	}
	_, err := p.selected()
	return err
}

func (p *program) commands() map[conformance.Program]string {
	all := make(map[conformance.Program]string)
	for name, command := range map[conformance.Program]string{
		conformance.ServerS: p.ServerS, conformance.Server: p.Server, conformance.Client: p.Client,
	} {
		if command != "" {
			all[name] = command
		}
	}
	return all
}

func (p *program) selected() ([]conformance.Criterion, error) {
	programs := slices.Clone(conformance.Programs)
	if given := p.commands(); len(given) > 0 {
		programs = slices.DeleteFunc(programs, func(name conformance.Program) bool { return given[name] == "" })
	}
	return conformance.Select(programs, p.Only)
}

func (p *program) Run(ctx context.Context) error {
	if p.List || p.Markdown {
		criteria, err := p.selected()
		if err != nil {
			return err
		}
		if p.Markdown {
			return conformance.WriteMarkdown(os.Stdout, criteria)
		}
		return conformance.WriteList(os.Stdout, criteria)
	}
	// What this program ignores, those that it starts would ignore as well.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	if !signal.Ignored(syscall.SIGHUP) { // as by nohup
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	suite := conformance.Suite{
		Alone:    true,
		Commands: p.commands(),
		Only:     p.Only,
		Timeout:  p.Timeout,
		Parallel: p.Parallel,
	}
	if terminal(os.Stderr) {
		suite.Progress = progress()
	}
	report, err := suite.Run(ctx)
	if err != nil {
		return err
	}
	for _, r := range []struct {
		file  string
		write func(io.Writer) error
	}{{p.JSON, report.WriteJSON}, {p.JUnit, report.WriteJUnit}} {
		if r.file != "" {
			if err := write(r.file, r.write); err != nil {
				return err
			}
		}
	}
	if p.JSON != "-" && p.JUnit != "-" {
		if err := report.WriteText(os.Stdout, terminal(os.Stdout) && os.Getenv("NO_COLOR") == ""); err != nil {
			return err
		}
	}
	if !report.Conforms() {
		return fmt.Errorf("%d of the required criteria do not hold", report.Required.Failed)
	}
	return nil
}

// progress shows on a terminal how far a run is.
func progress() func(conformance.Result) {
	done := 0
	return func(r conformance.Result) {
		done++
		fmt.Fprintf(os.Stderr, "\r\x1b[K%d done, last %s: %s\r", done, r.Name, r.Verdict)
	}
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && !os.SameFile(info, null)
}

func write(name string, report func(io.Writer) error) error {
	if name == "-" {
		return report(os.Stdout)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = report(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
