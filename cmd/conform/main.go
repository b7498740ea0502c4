// Command conform grades programs that speak the Accio protocol, in whatever
// language they are written:
//
//	conform --server-s 'python3 server-s.py' --server 'python3 server.py' --client 'python3 client.py'
//
// It runs the commands as from a shell, and prints the criteria that hold and those
// that do not, with the expected and the observed behaviour. Each of the three flags
// can be omitted. The exit code is 0 only if all selected required criteria hold;
// --help lists the other codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/integration/conformance"
)

// exitUnknown is the exit code of a run without a verdict.
const exitUnknown = 3

type program struct {
	Commands map[conformance.Program]string
	List     bool
	Markdown bool
	Only     []string
	Timeout  time.Duration
	Parallel int
	JSON     string
	JUnit    string
}

// Flags adds the flags.
func (p *program) Flags(f *cli.FlagSet) {
	p.Commands = make(map[conformance.Program]string)
	g := f.Group("Programs")
	g.Add(command{p.Commands, conformance.ServerS}, "server-s", "", "Start the server-s with `COMMAND` and a port.")
	g.Add(command{p.Commands, conformance.Server}, "server", "", "Start the server with `COMMAND`, a port and a directory.")
	g.Add(command{p.Commands, conformance.Client}, "client", "", "Start the client with `COMMAND`, a host, a port and a file.")
	g = f.Group("Criteria")
	g.Add(cli.Bool(&p.List), "list", "", "List the criteria of the given programs, or of all.")
	g.Add(cli.Bool(&p.Markdown), "markdown", "", "List them as a table in Markdown.")
	g.Add(cli.List(&p.Only), "only", "", "Try only criteria whose names match `PATTERN`, such as 'server/*-mib-*' or 'silence-*'. A pattern after an exclamation mark, such as '!*-lossy-network', excludes criteria. Repeat the flag, or separate patterns by commas.")
	g.Add(cli.Duration(&p.Timeout, 2*time.Minute, 1), "timeout", "", "Limit each criterion to `TIME`. A criterion that takes longer is not judged.")
	g.Add(cli.Int(&p.Parallel, 0, 1, math.MaxInt32), "parallel", "", "Try `N` criteria at the same time: with 1 a run takes ten minutes. The default is twice the number of processors, plus all criteria that only wait.")
	g = f.Group("Reports")
	g.Add(cli.File(&p.JSON), "json", "", "Also write the report as JSON to `FILE`. - is standard output, and replaces the text.")
	g.Add(cli.File(&p.JUnit), "junit", "", "Also write the report as JUnit XML to `FILE`. - is standard output, and replaces the text.")
}

// command is the value of a flag that starts a program. An empty command counts as given.
type command struct {
	all     map[conformance.Program]string
	program conformance.Program
}

func (c command) Set(text string) error { c.all[c.program] = text; return nil }
func (c command) String() string        { return c.all[c.program] }
func (c command) Type() string          { return "string" }

func main() {
	cli.Main(new(program), cli.Program{
		Name:    "conform",
		Summary: "Grade programs that speak the Accio protocol: run them, and test them from outside.",
		Examples: []cli.Item{
			{"$0 --server 'python3 server.py'", "grade a server"},
			{"$0 --client ./client --only '!*-lossy-network' --json report.json", "grade a client without the lossy networks, and write a JSON report"},
		},
		Config: "server = \"python3 server.py\"\nonly = [\"silence-*\", \"files/*\"]\n",
		Exits: []cli.Item{
			{"0", "all selected required criteria hold"},
			{"1", "some of them do not"},
			{"2", "the arguments are wrong"},
			{"3", "unknown: some required criteria cannot be tried here (exclude them by --only '!PATTERN'), the run was interrupted, or something other than the programs failed"},
		},
		Signals: []cli.Item{{"SIGINT, SIGTERM, SIGQUIT, SIGHUP", "interrupt the run, and end the programs under test"}},
	})
}

// Validate returns an error if the flags do not fit together.
func (p *program) Validate() error {
	list := p.List || p.Markdown
	if len(p.Commands) == 0 && !list {
		return fmt.Errorf("give at least one of --server-s, --server and --client, or --list")
	}
	if list && (p.JSON != "" || p.JUnit != "") {
		return fmt.Errorf("--list writes no report")
	}
	if p.JSON != "" && p.JSON == p.JUnit {
		return fmt.Errorf("--json and --junit need different files, not both %s", p.JSON)
	}
	if p.Only != nil && (len(p.Only) == 0 || slices.Contains(p.Only, "")) {
		return fmt.Errorf("--only needs a pattern; --list shows the names")
	}
	_, err := p.selected()
	return err
}

func (p *program) selected() ([]conformance.Criterion, error) {
	programs := slices.Clone(conformance.Programs)
	if given := p.Commands; len(given) > 0 {
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
	// The programs under test would inherit an ignored SIGPIPE.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // as by nohup
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	// First, so that a misspelt name does not waste a run. An old report must not pass
	// for that of this run, so these files are truncated.
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
		Commands: p.Commands,
		Only:     p.Only,
		Timeout:  p.Timeout,
		Parallel: p.Parallel,
		Alone:    true,
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
		return cli.Exit(exitUnknown, fmt.Errorf("interrupted (%w) without a report", err))
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

// create opens a file for a report. The name - is standard output. Without a name it
// returns nil.
func create(name string) (*os.File, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return os.Stdout, nil
	}
	return os.Create(name)
}

// discard removes unfinished reports, unless they are devices or pipes.
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

// progress shows the progress of a run on a terminal. The function done clears it.
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
