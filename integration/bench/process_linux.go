package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

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
	port, err := freePort()
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
	for deadline := time.Now().Add(patience); !listening(port); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s does not listen on port %d: %s", c.name, port, p.said)
		}
	}
	return p, nil
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
	for _, pid := range append(children(p.cmd.Process.Pid), p.cmd.Process.Pid) {
		f := stat(pid)
		if len(f) < 15 {
			continue
		}
		for _, s := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.Atoi(s)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// stat is a process's /proc/PID/stat from the third field on (proc(5)).
func stat(pid int) []string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// children are those of a process, and theirs.
func children(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		for _, s := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(s)
			all = append(append(all, child), children(child)...)
		}
	}
	return all
}

// field is a number from a file of lines such as "VmRSS:   1234 kB".
func (p *process) field(file, name string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// resident is how much memory the server has, in bytes.
func (p *process) resident() int64 { return p.field("status", "VmRSS") << 10 }

// moved is how many bytes have gone through the server's own memory, to and fro.
func (p *process) moved() int64 { return p.field("io", "rchar") + p.field("io", "wchar") }

// descriptors is how many the server has open, but for pipes: those of its
// runtime come and go.
func (p *process) descriptors() int {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	return len(slices.DeleteFunc(names, func(name string) bool {
		target, err := os.Readlink(name)
		return err != nil || strings.HasPrefix(target, "pipe:")
	}))
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// listening reports whether somebody listens on the port. It looks and does not
// touch: a connection would be an upload.
func listening(port int) bool {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(name)
		if err != nil {
			continue
		}
		defer table.Close()
		s := bufio.NewScanner(table)
		for s.Scan() {
			const listens = "0A"
			f := strings.Fields(s.Text())
			if len(f) > 3 && f[3] == listens && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				return true
			}
		}
	}
	return false
}
