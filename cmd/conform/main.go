// Command conform grades programs that speak the Accio protocol, in whatever
// language they are written:
//
//	conform --server-s 'python3 server-s.py' --server 'python3 server.py' --client 'python3 client.py'
//
// It runs the commands it is given, as one would start them from a shell, and
// prints which criteria hold and which do not, with what was expected and what was
// seen. Any of the three may be left out. It exits with code 0 only if all required
// criteria hold that are asked; --help tells the other codes.
package main

import (
	"context"
	"errors"
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

// Exit codes besides those that all programs have.
const exitUnknown = 3

type program struct {
	cli.Flags
	ServerS  *string       `name:"server-s" group:"Programs:" placeholder:"COMMAND" help:"How to start the server-s. The port is added."`
	Server   *string       `group:"Programs:" placeholder:"COMMAND" help:"How to start the server. The port and a directory are added."`
	Client   *string       `group:"Programs:" placeholder:"COMMAND" help:"How to start the client. Host, port and file are added."`
	List     bool          `group:"Criteria:" help:"List the criteria, of the programs that are given or of all."`
	Markdown bool          `group:"Criteria:" help:"List them as a table in Markdown."`
	Only     []string      `group:"Criteria:" placeholder:"PATTERN" help:"Try only criteria whose names match, such as 'server/*-mib-*' or 'silence-*', or not those after an exclamation mark, as in '!*-lossy-network'. May be repeated."`
	Timeout  time.Duration `group:"Criteria:" placeholder:"TIME" default:"2m" positive:"" help:"How long one criterion may take (default ${default}). What takes longer is not judged."`
	Parallel *int          `group:"Criteria:" placeholder:"N" positive:"" help:"How many criteria to try at the same time: with 1 it takes ten minutes. Otherwise it is twice the number of processors, and those that only wait."`
	JSON     string        `name:"json" path:"file" group:"Reports:" placeholder:"FILE" help:"Write the report as JSON, too. - is standard output, in place of the one for people."`
	JUnit    string        `name:"junit" path:"file" group:"Reports:" placeholder:"FILE" help:"Write the report as JUnit XML, too. - is standard output, in place of the one for people."`
}

func main() {
	cli.Main(&program{}, cli.Program{
		Name:    "conform",
		Summary: "Grade programs that speak the Accio protocol: run them, and judge them from outside.",
		Examples: []cli.Item{
			{"$0 --server 'python3 server.py'", "grade a server"},
			{"$0 --client ./client --only '!*-lossy-network' --json report.json", "grade a client, but not by networks that lose packets, and write a report for programs"},
		},
		Config: "server = \"python3 server.py\"\nonly = [\"silence-*\", \"files/*\"]\n",
		Exits: []cli.Item{
			{"0", "all required criteria hold that are asked"},
			{"1", "some do not"},
			{"2", "the arguments make no sense"},
			{"3", "it cannot be said: some required ones cannot be tried here (take them away by --only '!PATTERN'), the run was interrupted, or something failed that has nothing to do with the programs"},
		},
		Signals: []cli.Item{{"SIGINT, SIGTERM, SIGQUIT, SIGHUP", "interrupt the run, and end the programs that it has started"}},
	})
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
	if p.JSON != "" && p.JSON == p.JUnit {
		return fmt.Errorf("--json and --junit are to be written to different files, not both to %s", p.JSON)
	}
	if p.Only != nil && (len(p.Only) == 0 || slices.Contains(p.Only, "")) {
		return fmt.Errorf("--only is to be followed by a pattern, not by nothing; --list shows the names")
	}
	_, err := p.selected()
	return err
}

func (p *program) commands() map[conformance.Program]string {
	all := make(map[conformance.Program]string)
	for name, command := range map[conformance.Program]*string{
		conformance.ServerS: p.ServerS, conformance.Server: p.Server, conformance.Client: p.Client,
	} {
		if command != nil {
			all[name] = *command
		}
	}
	return all
}

func (p *program) selected() ([]conformance.Criterion, error) {
	programs := slices.Clone(conformance.Programs)
	if given := p.commands(); len(given) > 0 {
		programs = slices.DeleteFunc(programs, func(name conformance.Program) bool {
			_, ok := given[name]
			return !ok
		})
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
			return cli.Shown(conformance.WriteMarkdown(os.Stdout, criteria))
		}
		return cli.Shown(conformance.WriteList(os.Stdout, criteria))
	}
	// What this program ignores, those that it starts would ignore as well.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // as by nohup
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	// Before anything is tried: a run is not to be lost for a misspelt name. What
	// is there from an earlier run is not to be taken for the report of this one.
	var files []*os.File
	judged := false
	defer func() {
		if !judged {
			discard(files)
		}
	}()
	for _, name := range []string{p.JSON, p.JUnit} {
		f, err := create(name)
		if err != nil {
			return cli.Exit(cli.ExitUsage, fmt.Errorf("%w; name another file for the report", err))
		}
		files = append(files, f)
	}

	suite := conformance.Suite{
		Commands: p.commands(),
		Only:     p.Only,
		Timeout:  p.Timeout,
		Alone:    true,
	}
	if p.Parallel != nil {
		suite.Parallel = *p.Parallel
	}
	done := func() {}
	if terminal(os.Stderr) {
		suite.Progress, done = progress(os.Stderr)
	}
	report, err := suite.Run(ctx)
	done()
	switch {
	case errors.Is(err, conformance.ErrCommand), errors.Is(err, conformance.ErrSelection):
		return cli.Exit(cli.ExitUsage, err)
	case ctx.Err() != nil && err != nil:
		return cli.Exit(exitUnknown, fmt.Errorf("interrupted (%w): there is no report", err))
	case err != nil:
		return cli.Exit(exitUnknown, err)
	}
	judged = true
	var errs []error
	if p.JSON != "-" && p.JUnit != "-" {
		errs = append(errs, report.WriteText(os.Stdout, terminal(os.Stdout) && os.Getenv("NO_COLOR") == ""))
	}
	for i, write := range []func(io.Writer) error{report.WriteJSON, report.WriteJUnit} {
		if f := files[i]; f != nil {
			errs = append(errs, write(f), f.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return cli.Exit(exitUnknown, fmt.Errorf("writing the report: %w", err))
	}
	switch n := report.Unjudged(); {
	case report.Required.Failed > 0:
		return fmt.Errorf("%d of the required criteria do not hold", report.Required.Failed)
	case n > 0:
		return cli.Exit(exitUnknown, fmt.Errorf("%d criteria could not be judged", n))
	case report.Required.Skipped > 0:
		return cli.Exit(exitUnknown, fmt.Errorf("%d of the required criteria could not be tried here; the report says why, and --only '!PATTERN' takes away some", report.Required.Skipped))
	}
	return nil
}

// create opens a file for a report, - being standard output. Without a name there
// is none.
func create(name string) (*os.File, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return os.Stdout, nil
	}
	return os.Create(name)
}

// discard removes the files of reports that there will not be, but what is no plain
// file.
func discard(files []*os.File) {
	for _, f := range files {
		if f == nil || f == os.Stdout {
			continue
		}
		f.Close()
		if info, err := os.Lstat(f.Name()); err == nil && info.Mode().IsRegular() {
			os.Remove(f.Name())
		}
	}
}

// progress shows on a terminal how far a run is. What is shown goes away when the
// run is done.
func progress(w io.Writer) (step func(conformance.Result), done func()) {
	const clearLine = "\r\x1b[K" // ECMA-48
	n := 0
	return func(r conformance.Result) {
			n++
			fmt.Fprintf(w, clearLine+"%d done, last %s: %s\r", n, r.Name, r.Verdict)
		}, func() {
			if n > 0 {
				io.WriteString(w, clearLine)
			}
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
