//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/accio-go/accio/integration/conformance"
)

// What a client does to servers of all kinds is asked by the conformance kit.
// Here is what only users see of ours.

// listen is a server of the test, on an address of this machine.
func listen(t *testing.T, addr string) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	return ln.(*net.TCPListener)
}

// accept is the server's end of the next connection, to be scripted as the
// client's is elsewhere.
func accept(t *testing.T, ln *net.TCPListener) *client {
	t.Helper()
	conn, err := ln.AcceptTCP()
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return &client{conn: conn, name: "the server"}
}

// ask is the server's half of the handshake. What comes after it is left.
func (c *client) ask() *client {
	c.send(greeting).hear(confirm).send(greeting)
	if c.err != nil {
		return c
	}
	c.conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(again))
	if _, err := io.ReadFull(c.conn, got); err != nil || string(got) != again {
		return c.fail(fmt.Sprintf("expecting %q", again), fmt.Errorf("got %q, %v", got, err))
	}
	return c
}

// stuffed waits until no more comes, since nothing is taken: a reset that comes
// while the client sends may be told as a close.
func (c *client) stuffed() *client {
	for before, now := uint32(0), uint32(1); c.err == nil && before != now; {
		before = now
		time.Sleep(100 * time.Millisecond)
		var err error
		if now, _, err = queues(c.conn.LocalAddr().(*net.TCPAddr), c.conn.RemoteAddr().(*net.TCPAddr)); err != nil {
			c.fail("looking at what has come", err)
		}
	}
	return c
}

// take takes n bytes, or all there are if n is negative, and says how many came.
func (c *client) take(n int64) int64 {
	if c.err != nil {
		return 0
	}
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var came int64
	var err error
	if n < 0 {
		came, err = io.Copy(io.Discard, c.conn)
	} else {
		came, err = io.CopyN(io.Discard, c.conn, n)
	}
	if err != nil {
		c.fail("taking what is sent", err)
	}
	return came
}

// sendFile starts the client.
func sendFile(t *testing.T, l launch, addr net.Addr, args ...string) *program {
	t.Helper()
	host, port, err := net.SplitHostPort(addr.String())
	check(t, err)
	l.program, l.args = "client", append([]string{host, port}, args...)
	return l.start(t)
}

// succeeds checks that the client ends well, and says nothing.
func (p *program) succeeds() {
	p.t.Helper()
	if code := p.exit(); code != 0 {
		p.t.Errorf("exit code %d", code)
	}
	p.silent()
}

// Each kind of failure has its exit code, and a line that says what went wrong,
// where, after how much, and what to do.
func TestTheClientTellsWhatWentWrong(t *testing.T) {
	t.Parallel()
	const limit = "200ms"
	dir := newDirectory(t)
	dir.put("small", "hello")
	check(t, os.Truncate(dir.join("small"), 5))
	dir.put("large", "")
	check(t, os.Truncate(dir.join("large"), 64<<20))
	gone := listen(t, "127.0.0.1:0")
	nobody := gone.Addr().(*net.TCPAddr).Port
	gone.Close()

	for _, tt := range []struct {
		name   string
		args   func(host, port string) []string // nil: HOST PORT and the file small
		script func(c *client)                  // nil: nobody connects
		limit  string                           // the flag of a limit that is to pass soon
		code   int
		says   []string
	}{
		{name: "no arguments", args: func(string, string) []string { return nil }, code: 2, says: []string{"HOST", "--help"}},
		{name: "no file", args: func(h, p string) []string { return []string{h, p} }, code: 2, says: []string{"FILE"}},
		{name: "one argument too many", args: func(h, p string) []string { return []string{h, p, "small", "more"} }, code: 2, says: []string{"more"}},
		{name: "no port", args: func(h, p string) []string { return []string{h, "no-such-service", "small"} }, code: 2, says: []string{"PORT", "no-such-service", "65535"}},
		{name: "port 0", args: func(h, p string) []string { return []string{h, "0", "small"} }, code: 2, says: []string{"PORT", "65535", `"0"`}},
		{name: "a port with a sign", args: func(h, p string) []string { return []string{h, "+80", "small"} }, code: 2, says: []string{"PORT", "65535", "+80"}},
		{name: "a negative port", args: func(h, p string) []string { return []string{h, "-1", "small"} }, code: 2, says: []string{"PORT", "65535", `"-1"`}},
		{name: "a name that a terminal would obey", args: func(h, p string) []string { return []string{h, p, "\x1b[2J"} }, code: 3, says: []string{`\x1b[2J`}},
		{name: "a word after the end", script: func(c *client) { c.ask().take(-1); c.send("ok") }, code: 7, says: []string{"all 5 bytes of small were sent", "nothing was confirmed", `"ok"`}},
		{name: "an empty port", args: func(h, p string) []string { return []string{h, "", "small"} }, code: 2, says: []string{"PORT", "65535", `""`}},
		{name: "an empty host", args: func(h, p string) []string { return []string{"", p, "small"} }, code: 2, says: []string{"HOST", `""`}},
		{name: "an address in brackets", args: func(h, p string) []string { return []string{"[127.0.0.1]", p, "small"} }, code: 4, says: []string{"[127.0.0.1]"}},
		{name: "no time-out", args: func(h, p string) []string { return []string{h, p, "small", "--confirm-timeout=0s"} }, code: 2, says: []string{"--confirm-timeout"}},
		{name: "a missing file", args: func(h, p string) []string { return []string{h, p, "missing"} }, code: 3, says: []string{"missing", "nothing was sent"}},
		{name: "a directory", args: func(h, p string) []string { return []string{h, p, "."} }, code: 3, says: []string{"directory", "nothing was sent"}},
		{name: "an unknown host", args: func(_, p string) []string { return []string{"no-such-host.invalid", p, "small"} }, code: 4, says: []string{"no-such-host.invalid", "is the name right?"}},
		{name: "nobody there", args: func(h, _ string) []string { return []string{h, strconv.Itoa(nobody), "small"} }, code: 4, says: []string{"127.0.0.1:" + strconv.Itoa(nobody), "refused", "is the server running"}},
		{name: "another protocol", script: func(c *client) { c.send("220 smtp\r\n") }, code: 5, says: []string{"127.0.0.1:", "handshake", "220 sm", "is it an Accio server"}},
		{name: "no word", script: func(c *client) {}, limit: "--greeting-timeout", code: 5, says: []string{"127.0.0.1:", "handshake", limit}},
		{name: "a close in the handshake", script: func(c *client) { c.send(greeting).hear(confirm).close() }, code: 5, says: []string{"127.0.0.1:", "handshake"}},
		{name: "a server that has given up", args: func(h, p string) []string { return []string{h, p, "large"} },
			script: func(c *client) { c.ask().read(patience); c.halfClose().take(-1) }, code: 5, says: []string{"127.0.0.1:", "bytes of large were sent"}},
		{name: "a reset in the handshake", script: func(c *client) { c.send(greeting).hear(confirm).reset() }, code: 6, says: []string{"127.0.0.1:", "handshake", "reset", "try again"}},
		{name: "a reset in the payload", args: func(h, p string) []string { return []string{h, p, "large"} },
			script: func(c *client) { c.ask().stuffed().reset() }, code: 6, says: []string{"127.0.0.1:", "bytes of large were sent", "reset", "try again"}},
		{name: "a server that takes no more", args: func(h, p string) []string { return []string{h, p, "large"} },
			script: func(c *client) { c.ask() }, limit: "--stall-timeout", code: 6, says: []string{"127.0.0.1:", "bytes of large were sent", limit}},
		{name: "a reset at the end", script: func(c *client) { c.ask().take(-1); c.reset() }, code: 7, says: []string{"127.0.0.1:", "all 5 bytes of small were sent", "did not keep"}},
		{name: "no close at the end", script: func(c *client) { c.ask().take(-1) }, limit: "--confirm-timeout", code: 7, says: []string{"127.0.0.1:", "all 5 bytes of small were sent", "nothing was confirmed", "--confirm-timeout"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t, "127.0.0.1:0")
			host, port, err := net.SplitHostPort(ln.Addr().String())
			check(t, err)
			args := []string{host, port, "small"}
			if tt.args != nil {
				args = tt.args(host, port)
			}
			if tt.limit != "" {
				args = append(args, tt.limit+"="+limit)
			}
			p := launch{program: "client", args: args, workDir: dir.path}.start(t)
			if tt.script != nil {
				tt.script(accept(t, ln))
			}
			if code := p.exit(); code != tt.code {
				t.Errorf("exit code %d; want %d", code, tt.code)
			}
			said := p.complaint()
			for _, words := range tt.says {
				if !strings.Contains(said, words) {
					t.Errorf("on standard error: %q, without %q", said, words)
				}
			}
			p.silent()
		})
	}
}

// hosts has a program know the names of a file of hosts only.
func hosts(t *testing.T, lines ...string) launch {
	t.Helper()
	names := t.TempDir() + "/hosts"
	check(t, os.WriteFile(names, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	return launch{
		prelude: fmt.Sprintf(`mount --bind %q /etc/hosts`, names),
		attr: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		},
	}
}

// A name may have several addresses. All of them are tried, and one of them that
// never answers leaves time for the others.
func TestTheClientTriesAllAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, host, at string
		names          []string
	}{
		{"IPv4 of both", "both", "127.0.0.1:0", []string{"::1 both", "127.0.0.1 both"}},
		{"IPv6 of both", "both", "[::1]:0", []string{"127.0.0.1 both", "::1 both"}},
		{"the third", "many", "127.0.0.4:0", []string{"127.0.0.2 many", "127.0.0.3 many", "127.0.0.4 many"}},
		{"the second, where the first never answers", "slow", "127.0.0.3:0", []string{"127.0.0.2 slow", "127.0.0.3 slow"}},
		{"the seventh, where the others never answer", "slow", "127.0.0.9:0", []string{"127.0.0.2 slow", "127.0.0.3 slow", "127.0.0.4 slow", "127.0.0.5 slow", "127.0.0.6 slow", "127.0.0.7 slow", "127.0.0.9 slow"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat("/proc/net/if_inet6"); err != nil && strings.HasPrefix(tt.at, "[") {
				t.Skip("there is no IPv6 here")
			}
			ln := listen(t, tt.at)
			port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
			if tt.host == "slow" {
				for _, name := range tt.names[:len(tt.names)-1] {
					addr, _, _ := strings.Cut(name, " ")
					hole(t, addr+":"+port)
				}
			}
			l := hosts(t, tt.names...)
			l.program, l.args = "client", []string{tt.host, port, "/proc/self/cmdline"}
			p := l.start(t)
			c := accept(t, ln).ask()
			c.take(-1)
			check(t, c.close().err)
			p.succeeds()
		})
	}
}

// hole is an address at which nobody answers.
func hole(t *testing.T, addr string) {
	t.Helper()
	_, empty, err := conformance.FillQueue(addr)
	check(t, err)
	t.Cleanup(empty)
}

// terminal is a terminal of so many columns: what a user sees, and what a
// program has for its standard error.
func terminal(t *testing.T, columns uint16) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	check(t, err)
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	check(t, err)
	check(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	check(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	check(t, err)
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

// screen is what a user has seen so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// On a terminal the client shows how far it is.
func TestTheClientShowsItsProgressOnATerminal(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	path := t.TempDir() + "/payload"
	check(t, os.WriteFile(path, bytes.Repeat(block, size/len(block)), 0o666))
	for _, tt := range []struct {
		name  string
		args  []string
		stdin string
		shows []string
		not   string
	}{
		{"a file", []string{path}, "", []string{"/67 MB, ", "  0% ", "100%", "67/67 MB", "MB/s", "0s]"}, ""},
		{"a stream", []string{"-"}, path, []string{"MB/s", "67 MB"}, "%"},
		{"quiet", []string{"--quiet", path}, "", nil, "B"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			user, tty := terminal(t, 100)
			screen := &screen{}
			var looking sync.WaitGroup
			looking.Go(func() { io.Copy(screen, user) }) // until nobody has the terminal: EIO
			ln := listen(t, "127.0.0.1:0")
			ln.SetDeadline(time.Now().Add(patience))
			l := launch{stderr: tty}
			if tt.stdin != "" {
				l.prelude = fmt.Sprintf("mkfifo fifo && { cat %q > fifo & } && exec < fifo", tt.stdin)
				l.workDir = t.TempDir()
			}
			p := sendFile(t, l, ln.Addr(), tt.args...)
			tty.Close()
			c := accept(t, ln).ask()
			c.take(size / 2)
			if len(tt.shows) > 0 && !poll(func() bool { return strings.Contains(screen.String(), tt.shows[0]) }) {
				t.Errorf("no %q on the screen when half is sent: %q", tt.shows[0], screen.String())
			}
			c.take(-1)
			check(t, c.close().err)
			p.succeeds()
			looking.Wait()
			for _, words := range tt.shows {
				if !strings.Contains(screen.String(), words) {
					t.Errorf("no %q on the screen: %q", words, screen.String())
				}
			}
			if tt.not != "" && strings.Contains(screen.String(), tt.not) {
				t.Errorf("%q on the screen: %q", tt.not, screen.String())
			}
		})
	}
}

func TestTheClientSendsFourGigabytesInLittleMemory(t *testing.T) {
	busy(t)
	const size, bound = 4 << 30, 24 << 10 // bytes, kB
	path := t.TempDir() + "/payload"
	file, err := os.Create(path)
	check(t, err)
	check(t, file.Truncate(size)) // all of it a hole
	check(t, file.Close())
	ln := listen(t, "127.0.0.1:0")
	p := sendFile(t, launch{plain: true}, ln.Addr(), path)
	c := accept(t, ln).ask()
	// Taken without a look: the system counts it.
	check(t, c.conn.SetReadDeadline(time.Now().Add(10*patience)))
	n, err := discard(c.conn)
	check(t, err)
	if n != size {
		t.Errorf("%d bytes came", n)
	}
	if peak := p.field("status", "VmHWM"); peak > bound {
		t.Errorf("the client has taken up to %d kB of memory; want %d at most", peak, bound)
	}
	c.close()
	p.succeeds()
}

// discard takes all that comes, and counts it, without reading it: tcp(7) on
// MSG_TRUNC.
func discard(conn *net.TCPConn) (sum int64, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	for {
		var n int
		var rerr error
		if err := raw.Read(func(fd uintptr) bool {
			n, _, rerr = unix.Recvfrom(int(fd), block, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			return rerr != unix.EAGAIN
		}); err != nil || rerr != nil || n == 0 {
			return sum, errors.Join(err, rerr)
		}
		sum += int64(n)
	}
}

// The client ends at a signal, whatever it waits for, and says that it did. A
// server that has not seen the end sees none.
func TestASignalEndsTheClient(t *testing.T) {
	t.Parallel()
	const silent = "mkfifo fifo && exec 3<> fifo < fifo" // a pipe with a writer that says nothing
	dir := newDirectory(t)
	dir.put("small", "hello")
	dir.put("large", "")
	check(t, os.Truncate(dir.join("large"), 64<<20))
	for _, tt := range []struct {
		name, prelude, file string
		script              func(c *client) // nil: nobody connects
		end                 error           // what the server reads at last
		says                string
	}{
		// The second one: before the first it may still be about to find itself connected.
		{"a greeting", "", dir.join("small"), func(c *client) { c.send(greeting).hear(confirm) }, syscall.ECONNRESET, "will not keep them"},
		{"a server that takes nothing", "", dir.join("large"), func(c *client) { c.ask() }, syscall.ECONNRESET, "will not keep them"},
		{"its confirmation", "", dir.join("small"), func(c *client) { c.ask().take(-1) }, nil, "nothing was confirmed"},
		{"a silent pipe", silent, "-", func(c *client) { c.ask() }, syscall.ECONNRESET, "will not keep them"},
		{"a named pipe without a writer", "mkfifo fifo", "fifo", nil, nil, "nothing was confirmed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t, "127.0.0.1:0")
			p := sendFile(t, launch{prelude: tt.prelude, workDir: t.TempDir()}, ln.Addr(), tt.file)
			var c *client
			if tt.script != nil {
				c = accept(t, ln)
				tt.script(c)
				c.must(t)
			} else if !poll(func() bool { return p.within(unix.SYS_OPENAT) }) {
				t.Fatal("the client does not wait in open")
			}
			if code := p.exitAfter(syscall.SIGTERM); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if said := p.complaint(); !strings.Contains(said, "stopped") || !strings.Contains(said, tt.says) {
				t.Errorf("on standard error: %q, without %q", said, tt.says)
			}
			p.silent()
			if c != nil {
				if _, err := io.Copy(io.Discard, c.conn); !errors.Is(err, tt.end) {
					t.Errorf("the server sees %v; want %v", err, tt.end)
				}
			}
		})
	}
}

// within reports whether a thread of the program waits in a system call.
func (p *program) within(call int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", p.cmd.Process.Pid))
	return slices.ContainsFunc(threads, func(name string) bool {
		b, _ := os.ReadFile(name)
		return strings.HasPrefix(string(b), fmt.Sprintf("%d ", call))
	})
}

// A server that goes is noticed also while there is nothing to send.
func TestTheClientDoesNotWaitForASilentPipe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		goes func(c *client)
		code int
	}{
		{"a close", func(c *client) { c.close() }, 5},
		{"a reset", func(c *client) { c.reset() }, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t, "127.0.0.1:0")
			p := sendFile(t, launch{prelude: "mkfifo fifo && exec 3<> fifo < fifo", workDir: t.TempDir()}, ln.Addr(), "-")
			tt.goes(accept(t, ln).ask().must(t))
			if code := p.exit(); code != tt.code {
				t.Errorf("exit code %d; want %d", code, tt.code)
			}
			p.complaint()
			p.silent()
		})
	}
}

// A program that has read a part of its input leaves the rest to the client.
func TestTheClientSendsTheRestOfItsInput(t *testing.T) {
	t.Parallel()
	dir := newDirectory(t)
	dir.put("lines", "first\nsecond\n")
	for name, prelude := range map[string]string{
		"a file": "exec < lines && read line",
		"a pipe": "mkfifo fifo && { cat lines > fifo & } && exec < fifo && read line",
	} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t, "127.0.0.1:0")
			p := sendFile(t, launch{prelude: prelude, workDir: dir.path}, ln.Addr(), "-")
			c := accept(t, ln).ask().must(t)
			got, err := io.ReadAll(c.conn)
			check(t, err)
			if string(got) != "second\n" {
				t.Errorf("%q came", got)
			}
			c.close()
			p.succeeds()
		})
	}
}
