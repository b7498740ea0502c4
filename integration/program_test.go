//go:build linux

package integration

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/integration/proc"
)

// Where the programs are that TestMain has built: for users, and with the race
// detector, which makes a program that it finds fault with say so on standard
// error and exit with code 66.
var plainPrograms, racePrograms string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == watchingFsync {
		fmt.Fprintln(os.Stderr, watchFsync(os.Args[2:]))
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "accio")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755) // programs are also run by users who may do nothing
	plainPrograms, racePrograms = filepath.Join(dir, "plain"), filepath.Join(dir, "race")
	built := make(chan error)
	go func() { built <- build(racePrograms, "-race") }()
	if err := errors.Join(build(plainPrograms), <-built); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sideBySide()
	return m.Run()
}

func build(dir string, flags ...string) error {
	const commands = "github.com/accio-go/accio/cmd/"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	args := slices.Concat([]string{"build", "-o", dir}, flags, []string{commands + "server-s", commands + "server", commands + "client", commands + "conform"})
	cmd := exec.Command("go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return nil
}

// sideBySide has parallel tests run all at once, unless the user has said how
// many: those that wait for ten seconds to pass have nothing to compute, and
// the others take turns; see busy.
func sideBySide() {
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", "100")
	}
}

// turns are taken by tests that keep the machine busy.
var turns = make(chan struct{}, 2)

// busy makes a test one that runs beside those that wait, which are merely
// parallel, but beside no more than one other that keeps the machine busy.
func busy(t *testing.T) {
	t.Parallel()
	turns <- struct{}{}
	t.Cleanup(func() { <-turns })
}

// changes are taken by who starts a program and waits for what it does at once, or stops it
// and waits for its end. That is the most work of all, above all for one with the race
// detector, and what tests look at most closely; those that have waited for the same
// ten seconds would all do it in the same moment.
var changes = make(chan struct{}, 2)

// change does so in its turn.
func change(do func()) {
	changes <- struct{}{}
	defer func() { <-changes }()
	do()
}

const (
	// A program is to be gone this long after a signal, or wrong arguments.
	atOnce = time.Second

	// noticed is how much longer that may take to be noticed: the system takes
	// the program apart, and the tests keep the machine busy. A program with the
	// race detector is several times slower, and has several times more to be
	// taken apart.
	noticed     = 250 * time.Millisecond
	noticedRace = time.Second

	// patience is how long a test waits for what is due now, on a machine that
	// may be slow.
	patience = 30 * time.Second
)

// launch is how a program is started.
type launch struct {
	program string // server-s, server, client or conform
	args    []string
	plain   bool       // without the race detector
	prelude string     // shell commands to be run before it, in the same process
	through []string   // a program and its arguments, which runs in its place those that follow
	files   []*os.File // what it has open from descriptor 3 on
	stdout  *os.File   // nil: a pipe that the test reads
	stderr  *os.File   // likewise
	workDir string
	attr    *syscall.SysProcAttr
}

// program is a program that was started.
type program struct {
	t              *testing.T
	plain          bool
	cmd            *exec.Cmd
	stdout, stderr *output
	begun          time.Time
	exited         chan struct{}
	seen           bool // a test has looked at how it ended
}

// start starts a program. The test has to see it end, by exit or kill.
func (l launch) start(t *testing.T) *program {
	t.Helper()
	dir := racePrograms
	if l.plain {
		dir = plainPrograms
	}
	argv := append([]string{filepath.Join(dir, l.program)}, l.args...)
	if l.prelude != "" {
		argv = append([]string{"sh", "-c", l.prelude + ` && exec "$0" "$@"`}, argv...)
	}
	argv = slices.Concat(l.through, argv)
	p := &program{t: t, plain: l.plain, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.SysProcAttr, p.cmd.ExtraFiles = l.workDir, l.attr, l.files
	// Without this the race detector has a program linger for a second.
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")

	var ends []*os.File
	pipe := func() (*output, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, w)
		return newOutput(r), w
	}
	var w *os.File
	if l.stderr != nil {
		p.cmd.Stderr = l.stderr
	} else {
		p.stderr, w = pipe()
		p.cmd.Stderr = w
	}
	if l.stdout != nil {
		p.cmd.Stdout = l.stdout
	} else {
		p.stdout, w = pipe()
		p.cmd.Stdout = w
	}
	p.begun = time.Now()
	err := p.cmd.Start()
	for _, w := range ends {
		w.Close()
	}
	if err != nil && l.attr != nil && l.attr.Cloneflags != 0 {
		t.Fatalf("%v (this test needs the right to create user namespaces)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.cleanUp)
	return p
}

func (p *program) cleanUp() {
	select {
	case <-p.exited:
	default:
		p.cmd.Process.Kill()
		<-p.exited
	}
	switch {
	case p.t.Failed():
		for _, line := range p.stderr.rest() {
			p.t.Logf("%s said at last: %s", filepath.Base(p.cmd.Path), line)
		}
	case !p.seen:
		p.t.Error("the test has not looked at how the program ended")
	}
}

func (p *program) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *program) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the program to exit by itself, which is to happen at once, and
// returns its exit code.
func (p *program) exit() int {
	p.t.Helper()
	p.seen = true
	begin := time.Now()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("the program does not exit")
	}
	slack := noticedRace
	if p.plain {
		slack = noticed
	}
	if took := time.Since(begin); took > atOnce+slack {
		p.t.Errorf("it took the program %v to exit", took)
	}
	return p.cmd.ProcessState.ExitCode()
}

// exitAfter sends the program a signal, after which it is to exit at once, and returns its
// exit code.
func (p *program) exitAfter(sig os.Signal) (code int) {
	p.t.Helper()
	change(func() {
		p.signal(sig)
		code = p.exit()
	})
	return code
}

// run starts a program that is to exit at once, and returns its exit code.
func (l launch) run(t *testing.T) (p *program, code int) {
	t.Helper()
	change(func() {
		p = l.start(t)
		code = p.exit()
	})
	return p, code
}

// kill ends the program as a crash would.
func (p *program) kill() {
	p.t.Helper()
	p.seen = true
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// freeze stops the program as Ctrl-Z would, until thaw. The kernel still
// accepts connections for it.
func (p *program) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	if !poll(func() bool {
		stat, err := proc.Stat(p.cmd.Process.Pid)
		check(p.t, err)
		return stat[0] == "T"
	}) {
		p.t.Fatal("the program does not stop")
	}
}

func (p *program) thaw() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

// complaint is the next line of standard error, which is to be one that users
// can read.
func (p *program) complaint() string {
	p.t.Helper()
	line, err := p.stderr.next(patience)
	if err != nil {
		p.t.Fatalf("no word on standard error: %v", err)
	}
	if !strings.HasPrefix(line, "ERROR: ") || len(line) < len("ERROR: x\n") || !strings.HasSuffix(line, "\n") {
		p.t.Errorf("on standard error: %q, which is not one line that begins with ERROR", line)
	}
	return line
}

// silent checks that the program, which has exited, has written nothing more.
func (p *program) silent() {
	p.t.Helper()
	for _, line := range p.stderr.rest() {
		p.t.Errorf("on standard error: %q", line)
	}
	for _, line := range p.stdout.rest() {
		p.t.Errorf("on standard output: %q", line)
	}
}

// field is one of the program's own; see proc.Field.
func (p *program) field(file, name string) int64 {
	p.t.Helper()
	n, err := proc.Field(p.cmd.Process.Pid, file, name)
	check(p.t, err)
	return n
}

// descriptors are what the program has open.
func (p *program) descriptors() []string { return proc.Descriptors(p.cmd.Process.Pid) }

// listensOn reports whether the program listens on the port of every address.
func (p *program) listensOn(port int) bool {
	address, socket := proc.Listener(p.cmd.Process.Pid, port)
	return address == "00000000" && slices.Contains(p.descriptors(), socket)
}

// poll looks now and again whether ok, for as long as the tests have patience.
// It is for what the system has no event for.
func poll(ok func() bool) bool {
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// freePort is a port that nobody uses.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := proc.FreePort()
	check(t, err)
	return port
}

// output is what a program writes, line by line as it comes, each with its
// newline.
type output struct{ lines chan string }

func newOutput(r *os.File) *output {
	o := &output{make(chan string, 1<<14)}
	go func() {
		defer r.Close()
		defer close(o.lines)
		for b := bufio.NewReader(r); ; {
			line, err := b.ReadString('\n')
			if line != "" {
				o.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return o
}

// next waits for the next line. It returns io.EOF if there will be none.
func (o *output) next(within time.Duration) (string, error) {
	select {
	case line, ok := <-o.lines:
		if !ok {
			return "", io.EOF
		}
		return line, nil
	case <-time.After(within):
		return "", os.ErrDeadlineExceeded
	}
}

// rest is all there is until the end, which has come when the program exited. It
// is nothing if the output goes elsewhere.
func (o *output) rest() (lines []string) {
	if o == nil {
		return nil
	}
	for {
		line, err := o.next(patience)
		if err == os.ErrDeadlineExceeded {
			return append(lines, "(and no end)")
		}
		if err != nil {
			return lines
		}
		lines = append(lines, line)
	}
}
