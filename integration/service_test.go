//go:build linux

package integration

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service is one of the two servers, up and listening.
type service struct {
	*program
	port int
	dir  *directory // FILE-DIR; nil for server-s
	want []outcome  // how the connections have ended that were waited for

	// started, if not nil, is called when the program listens.
	started func()

	// beside is what is in the directory, by name, that is not the outcome of
	// a connection.
	beside map[string]string
}

// outcome is how a connection has ended: what server-s prints and server saves.
type outcome struct{ line, file string }

var (
	failed = outcome{"ERROR", "ERROR"}

	// lost is a payload that could not be saved where not even ERROR could.
	lost = outcome{file: "(no file)"}
)

// received is the outcome of a client whose payload has arrived.
func received(payload string) outcome { return outcome{strconv.Itoa(len(payload)), payload} }

// bothServers runs a test with each of the servers.
func bothServers(t *testing.T, test func(t *testing.T, program string)) {
	for _, program := range []string{"server-s", "server"} {
		t.Run(program, func(t *testing.T) { test(t, program) })
	}
}

// option is something about how a service is started.
type option func(*launch, *service)

// plain has the program be the one that users have.
func plain(l *launch, _ *service) { l.plain = true }

// after runs shell commands before the program, in the same process.
func after(prelude string) option {
	return func(l *launch, _ *service) { l.prelude = prelude }
}

// onPort has it listen on this very port.
func onPort(port int) option {
	return func(_ *launch, s *service) { s.port = port }
}

// in has it save files in dir.
func in(dir *directory) option {
	return func(_ *launch, s *service) { s.dir = dir }
}

// workingIn has it start in a directory.
func workingIn(path string) option {
	return func(l *launch, _ *service) { l.workDir = path }
}

// printingTo has its standard output go to f.
func printingTo(f *os.File) option {
	return func(l *launch, _ *service) { l.stdout = f }
}

// with gives it flags.
func with(flags ...string) option {
	return func(l *launch, _ *service) { l.args = append(l.args, flags...) }
}

// serve starts a server on a free port, with a directory of its own, and waits
// until it listens. The test has to stop it.
func serve(t *testing.T, program string, options ...option) *service {
	t.Helper()
	const attempts = 20 // another process may be quicker to take a port
	for attempt := 1; ; attempt++ {
		l := launch{program: program}
		s := &service{}
		if program == "server" {
			s.dir = newDirectory(t)
		}
		for _, o := range options {
			o(&l, s)
		}
		anyPort := s.port == 0
		if anyPort {
			s.port = freePort(t)
		}
		args := []string{strconv.Itoa(s.port)}
		if s.dir != nil {
			args = append(args, s.dir.path)
		}
		l.args = append(args, l.args...)
		change(func() {
			s.program = l.start(t)
			if !poll(func() bool { return s.listensOn(s.port) || !s.running() }) {
				t.Fatalf("%s does not listen", program)
			}
		})
		if s.running() {
			if s.started != nil {
				s.started()
			}
			return s
		}
		s.seen = true
		said := strings.Join(s.stderr.rest(), "")
		if !anyPort || attempt == attempts || !strings.Contains(said, syscall.EADDRINUSE.Error()) {
			t.Fatalf("%s does not start: %s", program, said)
		}
	}
}

// connect connects a client, which stays connected as long as the test goes on,
// if it does nothing itself.
func (s *service) connect() *client {
	c := connect(s.port)
	s.t.Cleanup(func() { c.close() })
	return c
}

// outcome waits until the next connection has ended, and checks how. It is to
// be asked of all connections in their order.
func (s *service) outcome(want outcome) {
	s.t.Helper()
	s.want = append(s.want, want)
	if s.dir == nil {
		s.line(want.line)
		return
	}
	name := numbered(len(s.want))
	s.dir.await(name)
	s.dir.holdsAt(name, want.file)
}

// fail breaks off the next connections, which are those of the clients, and
// waits until they have failed. A stop would do that as well, but has no more
// than a second for all of them.
func (s *service) fail(clients ...*client) {
	s.t.Helper()
	for _, c := range clients {
		c.reset()
	}
	for range clients {
		s.outcome(failed)
	}
}

// line waits for the next line of standard output.
func (s *service) line(want string) {
	s.t.Helper()
	if got, err := s.stdout.next(patience); err != nil || got != want+"\n" {
		s.t.Fatalf("on standard output: %.80q, %v; want %.80q", got, err, want+"\n")
	}
}

// stop stops the service and checks that it leaves nothing behind but the
// outcomes of connections that were asked for before, and these.
func (s *service) stop(more ...outcome) {
	s.t.Helper()
	s.halt(syscall.SIGTERM)
	s.left(more...)
}

// halt stops the service by a signal, and checks that it exits as it should.
func (s *service) halt(sig os.Signal) {
	s.t.Helper()
	if code := s.exitAfter(sig); code != 0 {
		s.t.Errorf("exit code %d after %v; want 0", code, sig)
	}
	ln, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", s.port))
	if err != nil {
		s.t.Errorf("the port is not free again: %v", err)
	} else {
		ln.Close()
	}
	for _, line := range s.stderr.rest() {
		s.t.Errorf("on standard error: %q", line)
	}
}

// left checks what a service that was stopped has left.
func (s *service) left(more ...outcome) {
	s.t.Helper()
	if s.dir != nil {
		s.silent()
		want := map[string]string{}
		for i, o := range append(s.want, more...) {
			if o != lost {
				want[numbered(i+1)] = o.file
			}
		}
		maps.Copy(want, s.beside)
		s.dir.holds(want)
		return
	}
	for _, o := range more {
		s.line(o.line)
	}
	s.silent()
}

// numbered is the name of the file of connection n.
func numbered(n int) string { return strconv.Itoa(n) + ".file" }

// directory is a directory that files are saved in.
type directory struct {
	t    *testing.T
	path string
}

func newDirectory(t *testing.T) *directory { return &directory{t, t.TempDir()} }

func (d *directory) join(name string) string { return filepath.Join(d.path, name) }

// names is what the directory holds, in order.
func (d *directory) names() []string {
	d.t.Helper()
	f, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// hidden is what it holds that a plain ls would not show.
func (d *directory) hidden() []string {
	d.t.Helper()
	return slices.DeleteFunc(d.names(), func(name string) bool { return name[0] != '.' })
}

// put puts a file there.
func (d *directory) put(name, content string) {
	d.t.Helper()
	if err := os.WriteFile(d.join(name), []byte(content), 0o666); err != nil {
		d.t.Fatal(err)
	}
}

// holdsAt checks the content of one file.
func (d *directory) holdsAt(name, want string) {
	d.t.Helper()
	if err := d.has(name, want); err != nil {
		d.t.Error(err)
	}
}

// has is holdsAt for use beside the test.
func (d *directory) has(name, want string) error {
	return examine(d.join(name), func(got []byte) error {
		if string(got) != want {
			return fmt.Errorf("%s holds %d bytes, %.60q…; want %d, %.60q…", name, len(got), got, len(want), want)
		}
		return nil
	})
}

// holds checks that the directory holds these files and nothing else.
func (d *directory) holds(want map[string]string) {
	d.t.Helper()
	for _, name := range d.names() {
		if _, ok := want[name]; !ok {
			d.t.Errorf("the directory also holds %q", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		d.holdsAt(name, want[name])
	}
}

func enumerate(names []string) string {
	const most = 40
	if len(names) > most {
		return fmt.Sprintf("%q and %d more", names[:most], len(names)-most)
	}
	return fmt.Sprintf("%q", names)
}

// await waits until there is a file of that name.
func (d *directory) await(name string) {
	d.t.Helper()
	d.awaitThat(name+" is there", func() bool {
		_, err := os.Lstat(d.join(name))
		return err == nil
	})
}

// awaitHidden waits until there are n hidden files: the payloads of so many
// clients are arriving.
func (d *directory) awaitHidden(n int) {
	d.t.Helper()
	d.awaitThat(fmt.Sprintf("%d hidden files are there", n), func() bool { return len(d.hidden()) == n })
}

// awaitThat waits for changes of the directory until ok.
func (d *directory) awaitThat(what string, ok func() bool) {
	d.t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		d.t.Fatal(os.NewSyscallError("inotify_init1", err))
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	const changes = syscall.IN_CREATE | syscall.IN_DELETE | syscall.IN_MOVE
	if _, err := syscall.InotifyAddWatch(fd, d.path, changes); err != nil {
		d.t.Fatal(os.NewSyscallError("inotify_add_watch", err))
	}
	events.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1<<16)
	for !ok() {
		if _, err := events.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			d.t.Fatalf("waited in vain until %s; the directory holds %s", what, enumerate(d.names()))
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}
