package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accio-go/accio/integration/proc"
	"golang.org/x/sys/unix"
)

// contestant is a server that is measured.
type contestant struct {
	name string
	argv func(port int, dir string) ([]string, error)
	// forks says that children of it do the work, whose processor time the
	// system adds up in coarse steps only.
	forks bool

	// threads says that it has one for each connection, and is not to be given
	// as many as the others.
	threads bool

	// descriptors is how many a connection takes that sends its payload, if not 2:
	// its own, and that of its file.
	descriptors int
}

// process is a contestant at work.
type process struct {
	contestant
	cmd  *exec.Cmd
	port int
	dir  string
	said *strings.Builder
}

// patience is how long a server may take to begin to listen, or to end.
const patience = 10 * time.Second

// startAll starts all of them, until stop is called.
func startAll(all []contestant, parent string) (servers []*process, stop func(), err error) {
	stop = func() {
		for _, p := range servers {
			p.stop()
		}
	}
	for _, c := range all {
		p, err := c.start(parent)
		if err != nil {
			stop()
			return nil, nil, err
		}
		servers = append(servers, p)
	}
	return servers, stop, nil
}

// start starts c with a directory of its own under parent.
func (c contestant) start(parent string) (*process, error) {
	port, err := proc.FreePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "accio-bench-")
	if err != nil {
		return nil, err
	}
	argv, err := c.argv(port, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p := &process{contestant: c, cmd: exec.Command(argv[0], argv[1:]...), port: port, dir: dir, said: new(strings.Builder)}
	p.cmd.Stderr = p.said
	// If this process dies, so do those that it has started. (The signal is for
	// the end of the thread that started them, and that is the main one: see
	// main.)
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.name, err), os.RemoveAll(dir))
	}
	for deadline := time.Now().Add(patience); !p.listens(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s does not listen on port %d: %s", c.name, port, p.said)
		}
	}
	return p, nil
}

// listens reports whether somebody listens on the server's port.
func (p *process) listens() bool {
	address, _ := proc.Listener(p.cmd.Process.Pid, p.port)
	return address != ""
}

// stop ends the server, and removes what it has saved.
func (p *process) stop() {
	p.cmd.Process.Signal(unix.SIGTERM)
	timer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	p.cmd.Wait()
	timer.Stop()
	os.RemoveAll(p.dir)
}

// clear removes what the server has saved so far.
func (p *process) clear() {
	entries, _ := os.ReadDir(p.dir)
	for _, e := range entries {
		os.RemoveAll(filepath.Join(p.dir, e.Name()))
	}
}

// cpu is the processor time that the server has used so far.
func (p *process) cpu() time.Duration {
	if p.forks {
		return p.cpuOfTree()
	}
	// The clock of another process: clock_getcpuclockid(3).
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|2), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// cpuOfTree is that of the server, its children, and theirs that have ended.
func (p *process) cpuOfTree() time.Duration {
	const tick = time.Second / 100 // USER_HZ, for all programs on Linux
	var sum time.Duration
	for _, pid := range append(proc.Descendants(p.cmd.Process.Pid), p.cmd.Process.Pid) {
		f, err := proc.Stat(pid)
		if err != nil {
			continue // it has ended meanwhile
		}
		for _, s := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.Atoi(s)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// field is that of the server, or 0.
func (p *process) field(file, name string) int64 {
	n, _ := proc.Field(p.cmd.Process.Pid, file, name)
	return n
}

// resident is how much memory the server has, in bytes.
func (p *process) resident() int64 { return p.field("status", "VmRSS") << 10 }

// moved is how many bytes have gone through the server's own memory, to and fro.
func (p *process) moved() int64 { return p.field("io", "rchar") + p.field("io", "wchar") }

// descriptors is how many the server has open, but for pipes: those of its
// runtime come and go.
func (p *process) descriptors() int {
	return len(slices.DeleteFunc(proc.Descriptors(p.cmd.Process.Pid), func(target string) bool {
		return strings.HasPrefix(target, "pipe:")
	}))
}
