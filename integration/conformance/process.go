package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launch is how a program is started.
type launch struct {
	args    []string
	dir     string // to be in; a fresh one as it comes
	prelude string // what the shell does before: umask, ulimit
	stdin   io.Reader
	net     *network
	stdout  *os.File // in place of keeping what it prints
	toFile  bool     // it prints into a file, and not into a pipe
}

// process is a program that was started.
type process struct {
	t        *trial
	args     []string
	cmd      *exec.Cmd
	dir      string
	out, err output
	done     chan struct{} // closed when it has ended
	up       chan struct{} // closed when it has started, if that is known; see isUp
	isUp     func()        // tells that it has started: others may start
}

// fail is trial.fail where that is about one program, of several perhaps.
func (p *process) fail(expected, format string, args ...any) {
	p.t.failAbout(p, expected, format, args...)
}

func (p *process) ensure(ok bool, expected, format string, args ...any) {
	if !ok {
		p.fail(expected, format, args...)
	}
}

// startUp is how long programs may take to start before others do, at the most: who
// never starts is not to hold up the run.
const startUp = 2 * time.Second

// output keeps what a program prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	file string // where it is, if it is not here
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := 1<<20 - o.text.Len(); len(p) > room { // a program gone mad
		o.text.Write(p[:room])
		return len(p), nil
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != "" {
		b, _ := os.ReadFile(o.file) // or what is expected there is missed
		return string(b)
	}
	return o.text.String()
}

// start starts the program. It is killed, with its children, when the trial is
// over.
func (t *trial) start(l launch) *process {
	p := &process{t: t, args: l.args, done: make(chan struct{}), up: make(chan struct{})}
	p.isUp = sync.OnceFunc(func() { close(p.up) })
	if t.over() {
		return p
	}
	if p.dir = l.dir; p.dir == "" {
		p.dir = t.directory()
	}
	program := t.suite.programs[t.program]
	argv := slices.Concat(program.argv, l.args)
	if l.prelude != "" {
		argv = append([]string{"sh", "-c", l.prelude + ` && exec "$@"`, "sh"}, argv...)
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = p.dir
	p.cmd.Env = append(p.cmd.Environ(), program.env...)
	p.cmd.Stdin = l.stdin
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if l.stdout != nil {
		p.cmd.Stdout = l.stdout
	}
	if l.toFile {
		p.out.file = filepath.Join(t.directory(), "stdout")
		f, err := os.Create(p.out.file)
		if err != nil {
			t.cannot("making a file", err)
			return p
		}
		defer f.Close()
		p.cmd.Stdout = f
	}
	// A child of the program may keep its pipes open.
	p.cmd.WaitDelay = time.Second
	asGroup(p.cmd)
	if t.reserved {
		t.reserved = false
	} else if !t.takePlace() {
		return p
	}
	if t.over() { // by now
		<-t.starting
		return p
	}
	if err := t.suite.begin(p.cmd, l.net); err != nil {
		<-t.starting
		if errors.Is(err, syscall.ENOEXEC) || errors.Is(err, fs.ErrNotExist) {
			// It will not be any better for other criteria.
			t.suite.abort(fmt.Errorf("%s: %w: %w; does its first line name an interpreter?", t.program, ErrCommand, err))
		}
		t.cannot("starting the program", err)
		return p
	}
	t.mu.Lock()
	t.processes = append(t.processes, p)
	t.mu.Unlock()
	var watch sync.WaitGroup
	watch.Go(func() {
		p.cmd.Wait() // what it says is in ProcessState
		close(p.done)
	})
	watch.Go(func() {
		timer := time.NewTimer(startUp)
		defer timer.Stop()
		select {
		case <-p.up:
		case <-p.done:
		case <-timer.C:
		}
		<-t.starting
	})
	t.later(func() {
		others := killAll(p.cmd)
		watch.Wait()
		awaitKilled(others)
	})
	return p
}

// begin starts a program on a thread that lives as long as the run: where the
// program ends with its parent, that is the thread.
func (r *run) begin(cmd *exec.Cmd, n *network) error {
	if n != nil {
		return n.do(cmd.Start)
	}
	return r.starter.do(cmd.Start)
}

// signal sends the program a signal.
func (p *process) signal(sig syscall.Signal) {
	if p.t.over() {
		return
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.cannot("sending a signal", err)
	}
}

// wait waits for the program to end, and fails the trial if it does not.
func (p *process) wait(within time.Duration, why string) bool {
	if p.t.over() {
		return false
	}
	timer := time.NewTimer(within + p.t.slack())
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
	case <-p.t.ctx.Done():
	}
	p.t.missed(within)
	p.fail(fmt.Sprintf("the program to end within %v %s", within, why), "it goes on")
	return false
}

// exit is how the program has ended.
func (p *process) exit() string {
	state := p.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fmt.Sprintf("killed by %v", ws.Signal())
	}
	return fmt.Sprintf("exit code %d", state.ExitCode())
}

// succeeds expects that the program ends with exit code 0.
func (p *process) succeeds(within time.Duration, why string) {
	if p.wait(within, why) {
		p.ensure(p.cmd.ProcessState.ExitCode() == 0, "exit code 0 "+why, "%s; on stderr: %s", p.exit(), oneLine(p.err.String()))
	}
}

// fails expects that the program ends with any other exit code, by itself.
func (p *process) fails(within time.Duration, why string) {
	if p.wait(within, why) {
		p.ensure(p.cmd.ProcessState.ExitCode() > 0, "a non-zero exit code "+why, "%s; on stderr: %s", p.exit(), oneLine(p.err.String()))
	}
}

// complains expects one line that begins with ERROR: on stderr.
func (p *process) complains(why string) {
	if p.t.over() {
		return
	}
	said := p.err.String()
	line, rest, ok := strings.Cut(said, "\n")
	p.ensure(ok && rest == "" && strings.HasPrefix(line, "ERROR: ") && len(line) > len("ERROR: "),
		"one line `ERROR: …` on stderr "+why, "%s", oneLine(said))
}

// quiet expects that the program has said nothing on stderr.
func (p *process) quiet() {
	if !p.t.over() {
		p.ensure(p.err.String() == "", "nothing on stderr", "%s", oneLine(p.err.String()))
	}
}

// ports that were given out by this process; see freePort.
var ports struct {
	sync.Mutex
	given map[int]bool
}

// freePort finds a port that nobody uses. It is not one of those that the
// system gives to clients, or some client could have it when the server comes.
func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	var err error
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if ports.given[port] {
			continue
		}
		if err = bindable(port); err != nil {
			continue
		}
		if ports.given == nil {
			ports.given = make(map[int]bool)
		}
		ports.given[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no free port: %w", err)
}
