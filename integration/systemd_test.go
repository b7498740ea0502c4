//go:build linux

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// held is a socket that the test holds, as systemd does, for servers that come and go.
type held struct {
	net.Listener
	port int
	file *os.File
}

func hold(t *testing.T, network, address string) *held {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), network, address)
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	f, err := ln.(*net.TCPListener).File()
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return &held{ln, ln.Addr().(*net.TCPAddr).Port, f}
}

// passing passes files to a program as systemd does (sd_listen_fds(3)).
func passing(files ...*os.File) option {
	return func(l *launch, _ *service) {
		l.files = files
		l.prelude = fmt.Sprintf("export LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=accio.socket", len(files))
	}
}

// serveOn starts a server on a socket that is held.
func serveOn(t *testing.T, h *held, program string, options ...option) *service {
	t.Helper()
	return serve(t, program, append([]option{onPort(h.port), passing(h.file)}, options...)...)
}

// leave stops a service whose port stays taken.
func (s *service) leave(more ...outcome) {
	s.t.Helper()
	if code := s.exitAfter(syscall.SIGTERM); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
	s.left(more...)
}

func TestASocketThatIsPassedIsServed(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		h := hold(t, "tcp4", "0.0.0.0:0")
		early := connect(h.port).must(t) // before the server
		defer early.close()
		s := serveOn(t, h, program)
		check(t, early.greet().send("ab").sendUrgent("c").halfClose().fin())
		s.outcome(received("abc"))
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.cmd.Process.Pid))
		check(t, err)
		if !strings.Contains(string(environment), "LISTEN_FDS=1") {
			t.Fatal("the socket was not passed")
		}
		// It still is there when the server is not, and the next serves who waits.
		s.leave()
		late := connect(h.port).must(t)
		defer late.close()
		next := serveOn(t, h, program)
		check(t, late.greet().send("late").halfClose().fin())
		next.leave(received("late"))
	})
}

// Where no other socket can be had, as in the unit's sandbox, what is passed is what counts.
func TestASocketThatIsPassedIsChecked(t *testing.T) {
	busy(t)
	h := hold(t, "tcp4", "0.0.0.0:0")
	bothServers(t, func(t *testing.T, program string) {
		check := func(port string) launch {
			l := launch{program: program, args: []string{"--check", port}, plain: true}
			if program == "server" {
				l.args = append(l.args, newDirectory(t).path)
			}
			passing(h.file)(&l, nil)
			return l
		}
		p, code := check(strconv.Itoa(h.port)).run(t)
		if code != 0 {
			t.Errorf("exit code %d: %s", code, p.stderr.rest())
		}
		refuse(t, check("54321"), 1, "54321", strconv.Itoa(h.port))
	})
}

func TestASocketOfBothFamiliesIsServed(t *testing.T) {
	busy(t)
	h := hold(t, "tcp", "[::]:0")
	l := launch{program: "server-s", args: []string{strconv.Itoa(h.port)}}
	passing(h.file)(&l, nil)
	p := l.start(t)
	check(t, upload(h.port, "by IPv4"))
	want := "7\n"
	if probe, err := net.Listen("tcp6", "[::1]:0"); err == nil { // the machine has it
		probe.Close()
		file := filepath.Join(t.TempDir(), "file")
		check(t, os.WriteFile(file, []byte("by IPv6, too"), 0o644))
		_, code := launch{program: "client", args: []string{"::1", strconv.Itoa(h.port), file}}.run(t)
		if code != 0 {
			t.Errorf("the client exits with %d", code)
		}
		want += "12\n"
	}
	if code := p.exitAfter(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := strings.Join(p.stdout.rest(), ""); got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
}

// Clients come all the while, and the server is restarted under them.
func TestARestartLosesNoConnection(t *testing.T) {
	busy(t)
	const restarts, clients = 8, 8
	h := hold(t, "tcp4", "0.0.0.0:0")
	dir := newDirectory(t)
	options := []option{in(dir), with("--continue", "--drain=1m"), plain}
	s := serveOn(t, h, "server", options...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var kept [clients]int
	var errs [clients]error
	progress := make(chan struct{}, 1)
	for i := range clients {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if errs[i] = upload(h.port, fmt.Sprintf("%d of client %d", kept[i], i)); errs[i] != nil {
					return
				}
				kept[i]++
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	for range restarts {
		for range 20 {
			select {
			case <-progress:
			case <-time.After(patience):
				t.Error("no upload is done")
			}
		}
		if code := s.exitAfter(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.silent()
		s = serveOn(t, h, "server", options...)
	}
	close(stop)
	wg.Wait()
	s.exitAfter(syscall.SIGTERM)
	s.silent()
	got := map[string]int{}
	for _, name := range dir.names() {
		content, err := os.ReadFile(dir.join(name))
		check(t, err)
		got[string(content)]++
	}
	for i := range clients {
		if errs[i] != nil {
			t.Errorf("client %d: %v", i, errs[i])
		}
		for n := range kept[i] {
			content := fmt.Sprintf("%d of client %d", n, i)
			if got[content] != 1 {
				t.Errorf("%q is there %d times", content, got[content])
			}
			delete(got, content)
		}
	}
	for content, n := range got {
		t.Errorf("%q is there %d times, and nobody was told that it is", content, n)
	}
}

func TestWhatCannotBeServedOfWhatIsPassedIsRefused(t *testing.T) {
	busy(t)
	h := hold(t, "tcp4", "0.0.0.0:0")
	port := strconv.Itoa(h.port)
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	check(t, err)
	defer packets.Close()
	datagram, err := packets.(*net.UDPConn).File()
	check(t, err)
	defer datagram.Close()
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	check(t, err)
	defer local.Close()
	unix, err := local.(*net.UnixListener).File()
	check(t, err)
	defer unix.Close()
	file, err := os.Open(os.DevNull)
	check(t, err)
	defer file.Close()
	bothServers(t, func(t *testing.T, program string) {
		for _, tt := range []struct {
			name  string
			port  string
			files []*os.File
			words []string
		}{
			{"two sockets", port, []*os.File{h.file, h.file}, []string{"2 sockets", "ListenStream"}},
			{"another port", "54321", []*os.File{h.file}, []string{"54321", port}},
			{"datagrams", port, []*os.File{datagram}, []string{"of another protocol"}},
			{"a socket of the machine", port, []*os.File{unix}, []string{"accio.socket", "not a TCP socket"}},
			{"no socket", port, []*os.File{file}, []string{"socket operation on non-socket"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				work := newDirectory(t)
				l := launch{program: program, args: []string{tt.port}, workDir: work.path, plain: true}
				if program == "server" {
					l.args = append(l.args, "files")
				}
				passing(tt.files...)(&l, nil)
				refuse(t, l, 1, tt.words...)
				work.holds(nil)
			})
		}
	})
}

// manager is what a server tells its service manager.
type manager struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return &manager{t, path, conn}
}

// managed has a server be one of m's, with a watchdog, if that has some patience.
func (m *manager) managed(watchdog time.Duration) option {
	return func(l *launch, _ *service) {
		l.prelude = "export NOTIFY_SOCKET=" + m.path
		if watchdog > 0 {
			l.prelude += fmt.Sprintf(" WATCHDOG_PID=$$ WATCHDOG_USEC=%d", watchdog.Microseconds())
		}
	}
}

// next is the next that a server tells, but for what its watchdog is fed with.
func (m *manager) next() map[string]string {
	m.t.Helper()
	for {
		if state := m.any(); state["WATCHDOG"] == "" {
			return state
		}
	}
}

func (m *manager) any() map[string]string {
	m.t.Helper()
	buf := make([]byte, 4096)
	m.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := m.conn.Read(buf)
	check(m.t, err)
	state := map[string]string{}
	for line := range strings.Lines(string(buf[:n])) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		state[name] = value
	}
	return state
}

func (m *manager) told(state map[string]string, name, value string) {
	m.t.Helper()
	if state[name] != value {
		m.t.Errorf("the manager is told %v; want %s=%s", state, name, value)
	}
}

func TestTheServiceManagerIsToldWhatHappens(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		m := newManager(t)
		s := serve(t, program, m.managed(0), with("--drain=1m"))
		ready := m.next()
		m.told(ready, "READY", "1")
		m.told(ready, "STATUS", fmt.Sprintf("Listening on 0.0.0.0:%d", s.port))

		s.signal(syscall.SIGHUP)
		reloading := m.next()
		m.told(reloading, "RELOADING", "1")
		if n, err := strconv.ParseInt(reloading["MONOTONIC_USEC"], 10, 64); err != nil || n <= 0 {
			t.Errorf("it is told %v", reloading)
		}
		m.told(m.next(), "READY", "1")

		c := s.connect().greet().send("hel").taken().must(t)
		s.signal(syscall.SIGTERM)
		stopping := []map[string]string{m.next(), m.next()}
		if stopping[0]["STOPPING"] == "" {
			stopping[0], stopping[1] = stopping[1], stopping[0]
		}
		m.told(stopping[0], "STOPPING", "1")
		m.told(stopping[0], "EXTEND_TIMEOUT_USEC", strconv.Itoa(60_950_000))
		m.told(stopping[1], "STATUS", "Stopping; connections left: 1")
		s.signal(syscall.SIGHUP) // to no effect
		check(t, c.send("lo").halfClose().fin())
		if code := s.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		m.told(m.next(), "STATUS", "Stopping; connections left: 0")
		s.left(received("hello"))
	})
}

func TestTheWatchdogIsFed(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		m := newManager(t)
		s := serve(t, program, m.managed(100*time.Millisecond))
		m.told(m.next(), "READY", "1")
		for range 3 {
			m.told(m.any(), "STATUS", "Connections: 0")
		}
		c := s.connect().greet().must(t)
		for state := m.any(); state["STATUS"] != "Connections: 1"; state = m.any() {
			m.told(state, "WATCHDOG", "1")
		}
		c.close()
		s.outcome(received(""))
		s.stop()
	})
}

// A manager that does not listen, or is none, is not waited for.
func TestAServiceManagerThatDoesNotListenHoldsNothingUp(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		m := newManager(t)
		s := serve(t, program, m.managed(2*time.Millisecond)) // and its queue is full at once
		check(t, upload(s.port, "hello"))
		s.stop(received("hello"))
		os.Remove(m.path)
		gone := serve(t, program, m.managed(2*time.Millisecond))
		check(t, upload(gone.port, "hello"))
		gone.stop(received("hello"))
	})
}

// As ever, the server goes with its terminal.
func TestAHangUpEndsAServerThatHasNothingToReload(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		s.exitAfter(syscall.SIGHUP)
		if status := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGHUP {
			t.Errorf("it ended with %v", s.cmd.ProcessState)
		}
	})
}

// needs skips a test if a tool is not there.
func needs(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skip(err)
	}
}

func TestSystemdSocketActivateStartsTheServers(t *testing.T) {
	needs(t, "systemd-socket-activate")
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		port := freePort(t)
		dir := newDirectory(t)
		l := launch{program: program, args: []string{strconv.Itoa(port)}, plain: true,
			through: []string{"systemd-socket-activate", "--listen", fmt.Sprintf("0.0.0.0:%d", port)}}
		if program == "server" {
			l.args = append(l.args, dir.path)
		}
		p := l.start(t)
		if line, err := p.stderr.next(patience); err != nil || !strings.Contains(line, "Listening") {
			t.Fatalf("it says %q, %v", line, err)
		}
		check(t, upload(port, "hello"))
		check(t, upload(port, "and more"))
		if code := p.exitAfter(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d: %s", code, p.stderr.rest())
		}
		if program == "server" {
			dir.holds(map[string]string{"1.file": "hello", "2.file": "and more"})
		} else if got := strings.Join(p.stdout.rest(), ""); got != "5\n8\n" {
			t.Errorf("it prints %q", got)
		}
	})
}

// units is a directory with the units, for the program that was built.
func units(t *testing.T) string {
	t.Helper()
	const installed = "ExecStart=/usr/bin/accio-server "
	dir := t.TempDir()
	for _, name := range []string{"accio-server.service", "accio-server.socket"} {
		unit, err := os.ReadFile("../cmd/server/systemd/" + name)
		check(t, err)
		if name == "accio-server.service" && !strings.Contains(string(unit), installed) {
			t.Fatalf("%s does not start %q", name, installed)
		}
		unit = []byte(strings.Replace(string(unit), installed, "ExecStart="+filepath.Join(plainPrograms, "server")+" ", 1))
		check(t, os.WriteFile(filepath.Join(dir, name), unit, 0o644))
	}
	return dir
}

func TestTheUnitsAreRightAndSafe(t *testing.T) {
	needs(t, "systemd-analyze")
	busy(t)
	dir := units(t)
	service := filepath.Join(dir, "accio-server.service")
	for _, args := range [][]string{
		{"verify", "--man=no", service, filepath.Join(dir, "accio-server.socket")},
		// Tenths, of 10: 0.5 is what README says.
		{"security", "--offline=true", "--threshold=5", "--no-pager", service},
	} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}
