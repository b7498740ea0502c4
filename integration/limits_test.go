//go:build linux

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/accio-go/accio/integration/proc"
)

// That memory does not grow with the file, and that silence costs no processor
// time, is asked by the conformance kit. Here is what it cannot ask, or not so much.

// Payload moves in the kernel: the program itself reads and writes none of it,
// as the system counts what it reads and writes (proc(5), /proc/PID/io).
func TestThePayloadDoesNotPassThroughTheProgram(t *testing.T) {
	busy(t)
	s := serve(t, "server", plain)
	const size, bound = 64 << 20, 1 << 20
	read, written := s.field("io", "rchar"), s.field("io", "wchar")
	check(t, s.connect().greet().pour(size/len(block), block).halfClose().fin())
	if n := s.field("io", "rchar") - read; n > bound {
		t.Errorf("the program has read %d bytes to save %d", n, size)
	}
	if n := s.field("io", "wchar") - written; n > bound {
		t.Errorf("the program has written %d bytes to save %d", n, size)
	}
	s.stop(received(strings.Repeat(string(block), size/len(block))))
}

// few is a limit on open files that is far less than there are clients.
const few = "ulimit -n 64"

func TestMoreClientsThanDescriptorsAreAllServed(t *testing.T) {
	busy(t)
	s := serve(t, "server", plain, after(few))
	const n, rounds = 150, 3
	want := make([]outcome, n*rounds)
	for round := range rounds {
		clients := queue(t, s.port, n)
		together(t, n, func(i int) error {
			number := round*n + i + 1
			payload := strings.Repeat(fmt.Sprintf("client %d ", number), 1+rand.IntN(5000))
			want[number-1] = received(payload)
			halves := cutAt(payload, len(payload)/2)
			if err := clients[i].greet().send(halves...).halfClose().fin(); err != nil {
				return err
			}
			return s.dir.has(numbered(number), payload)
		})
	}
	s.stop(want...)
}

// Who has set a limit on open files without a thought of it is told how many clients are
// served.
func TestFewSlotsAreTold(t *testing.T) {
	busy(t)
	const limit = 200 // of which 32 are reserved, and 168 are for 84 clients
	for _, tt := range []struct {
		flags []string
		slots int
		says  []string // nothing: there is no warning
	}{
		{nil, 84, nil},
		{[]string{"--max-conns=3"}, 3, nil},
		{[]string{"--max-conns=84"}, 84, nil},
		{[]string{"--max-conns=85"}, 84, []string{"only 84 of --max-conns=85 clients", "168 descriptors", "a client takes 2"}},
		{[]string{"--on-saved=true", "--on-saved-jobs=24"}, 12, nil},
		{[]string{"--on-saved=true", "--on-saved-jobs=25"}, 9, []string{"only 9 at a time", "--on-saved-jobs=25 takes 150"}},
		{[]string{"--on-saved=true", "--on-saved-jobs=27"}, 3, []string{"only 3 at a time", "--on-saved-jobs=27 takes 162"}},
		{[]string{"--on-saved=true", "--on-saved-jobs=27", "--max-conns=3"}, 3, nil},
		{[]string{"--on-saved=true", "--on-saved-jobs=28"}, 0, []string{"no client can be served", "--on-saved-jobs=28 takes 168"}},
		{[]string{"--on-saved=true", "--on-saved-jobs=1000", "--max-conns=1"}, 0, []string{"no client can be served", "--on-saved-jobs=1000 takes 6000"}},
	} {
		t.Run(strings.Join(tt.flags, " "), func(t *testing.T) {
			prelude := fmt.Sprintf("ulimit -n %d", limit)
			work := newDirectory(t)
			args := append([]string{fmt.Sprint(freePort(t)), work.join("files"), "--log-level=info", "--log-format=json"}, tt.flags...)
			checked := launch{program: "server", args: append(args[:len(args):len(args)], "--check"), prelude: prelude, plain: true}
			if tt.slots == 0 {
				refuse(t, checked, 1, tt.says...)
				refuse(t, launch{program: "server", args: append(args[:2:2], tt.flags...), prelude: prelude, plain: true}, 1, tt.says...)
				work.holds(nil)
				return
			}
			p, code := checked.run(t)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			said := strings.Join(p.stdout.rest(), "")
			p.silent()
			if tt.says == nil && said != "server"+fine || tt.says != nil && !strings.HasSuffix(said, "\nserver: everything else is fine\n") {
				t.Errorf("it says %q", said)
			}
			s := serve(t, "server", plain, after(prelude), with("--log-level=info", "--log-format=json"), with(tt.flags...))
			if tt.says != nil {
				r := s.record()
				has(t, r, map[string]any{"level": "WARN", "msg": "few slots", "slots": tt.slots})
				for _, what := range []string{said, fmt.Sprint(r["cause"])} {
					for _, text := range tt.says {
						if !strings.Contains(what, text) {
							t.Errorf("%q does not say %q", what, text)
						}
					}
				}
			}
			has(t, s.record(), map[string]any{"msg": "listening", "slots": tt.slots})
			for _, line := range s.quit() {
				if strings.Contains(line, "WARN") {
					t.Errorf("a warning: %s", line)
				}
			}
		})
	}
}

// No client can bring that about, but who looks after the system can, or another
// program: the descriptors run out while the server is at work.
func TestAServerWithoutDescriptorsWaitsForSome(t *testing.T) {
	t.Parallel()
	const waiting, while = 30, 2500 * time.Millisecond
	s := serve(t, "server", plain)
	check(t, upload(s.port, "before"))
	s.outcome(received("before"))
	begun := s.connect().greet().send("he").taken().must(t)
	s.dir.awaitHidden(1)

	before := s.cpu()
	was := s.limitDescriptors(s.lowestFree())
	clients := queue(t, s.port, waiting)
	clients[0].quiet(while).must(t)
	for _, c := range clients[1:] {
		c.waiting().must(t)
	}
	if took := s.cpu() - before; took > while/5 {
		t.Errorf("it took %v of processor time to wait for %v", took, while)
	}
	// Once in that time, and no more: stop sees to that.
	if said := s.complaint(); !strings.Contains(said, syscall.EMFILE.Error()) {
		t.Errorf("on standard error: %q", said)
	}
	check(t, begun.pour(3, block).halfClose().fin())
	s.outcome(received("he" + strings.Repeat(string(block), 3)))

	s.limitDescriptors(was)
	together(t, waiting, func(i int) error { return clients[i].greet().send("after").halfClose().fin() })
	for range clients {
		s.outcome(received("after"))
	}
	s.stop()
}

// lowestFree is the descriptor that the program would get next.
func (p *program) lowestFree() (fd uint64) {
	for ; ; fd++ {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.cmd.Process.Pid, fd))
		if errors.Is(err, os.ErrNotExist) {
			return fd
		}
		check(p.t, err)
	}
}

// limitDescriptors has the program get no descriptor that is as high, and returns
// which that was before. What it has it keeps.
func (p *program) limitDescriptors(n uint64) (was uint64) {
	p.t.Helper()
	var old unix.Rlimit
	check(p.t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &old))
	check(p.t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil))
	return old.Cur
}

// cpu is the processor time that the program has taken.
func (p *program) cpu() (sum time.Duration) {
	p.t.Helper()
	const tick = time.Second / 100 // USER_HZ, for all programs on Linux
	stat, err := proc.Stat(p.cmd.Process.Pid)
	check(p.t, err)
	for _, s := range stat[11:13] { // utime, stime
		n, err := strconv.Atoi(s)
		check(p.t, err)
		sum += time.Duration(n) * tick
	}
	return sum
}

// Those who hold all there is lose it by their silence.
func TestSilentClientsCannotKeepTheLastDescriptor(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, plain, after(few))
		if program == "server-s" {
			s.connect().hear(greeting).must(t)
			check(t, upload(s.port, "hello"))
			s.stop(failed, received("hello"))
			return
		}
		const silent = 20
		clients := queue(t, s.port, silent)
		check(t, upload(s.port, "hello"))
		s.fail(clients...)
		s.stop(received("hello"))
	})
}

// garbage begins no confirmation.
var garbage = func() string {
	b := make([]byte, 4096)
	rand.NewChaCha8([32]byte{}).Read(b)
	b[0] = 0xff
	return string(b)
}()

// flood is a client that does harm, or nothing of use.
func flood(port int) {
	c := connect(port)
	switch rand.IntN(8) {
	case 0:
		c.reset()
	case 1:
		c.send(garbage).reset()
	case 2:
		c.send(garbage).close()
	case 3:
		c.send(header, garbage).reset()
	case 4:
		c.send(confirm, garbage).endedAfter(greeting + greeting)
	case 5:
		c.send(header[:rand.IntN(len(header))]).reset()
	case 6:
		c.close()
	case 7:
		c.send("\r\n").endedAfter(greeting)
	}
	c.close()
}

func TestAFloodOfGarbageAndResetsDoesNotStopTheServiceForOthers(t *testing.T) {
	busy(t)
	const flooders, each, honest = 10, 150, 20
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		payload := func(n int) string { return fmt.Sprintf("honest client %02d", n) }
		check(t, upload(s.port, payload(0)))
		before := sockets(s.descriptors())
		together(t, flooders+1, func(i int) error {
			if i < flooders {
				for range each {
					flood(s.port)
				}
				return nil
			}
			for n := 1; n <= honest; n++ {
				if err := upload(s.port, payload(n)); err != nil {
					return err
				}
			}
			return nil
		})
		check(t, upload(s.port, payload(honest+1)))

		// All have an outcome, and leave nothing open.
		const total = 1 + flooders*each + honest + 1
		found := map[string]int{}
		if program == "server" {
			s.dir.awaitThat(fmt.Sprintf("%d files are there", total), func() bool {
				return len(s.dir.names()) == total && len(s.dir.hidden()) == 0
			})
		} else {
			for range total {
				line, err := s.stdout.next(patience)
				check(t, err)
				found[strings.TrimSuffix(line, "\n")]++
			}
		}
		if !poll(func() bool { return sockets(s.descriptors()) == before }) {
			t.Errorf("%d sockets are open; before it was %d", sockets(s.descriptors()), before)
		}
		const spare = 50 // pipes, say, that are kept to be used again
		if open := s.descriptors(); len(open) > spare {
			t.Errorf("%d descriptors are open: %q", len(open), open)
		}
		s.halt(syscall.SIGTERM)
		s.silent()

		if program == "server" {
			for n := range total {
				content, err := os.ReadFile(s.dir.join(numbered(n + 1)))
				check(t, err)
				found[string(content)]++
			}
			for n := range honest + 2 {
				if found[payload(n)] != 1 {
					t.Errorf("%q is there %d times", payload(n), found[payload(n)])
				}
				delete(found, payload(n))
			}
		} else {
			line := received(payload(0)).line
			if found[line] != honest+2 {
				t.Errorf("%q was printed %d times for %d clients", line, found[line], honest+2)
			}
			delete(found, line)
		}
		for _, o := range []outcome{received(""), failed} {
			delete(found, o.line)
			delete(found, o.file)
		}
		if len(found) > 0 {
			t.Errorf("other outcomes are %.200q", fmt.Sprint(found))
		}
	})
}

// sockets counts the sockets among descriptors.
func sockets(descriptors []string) (n int) {
	for _, d := range descriptors {
		if strings.HasPrefix(d, "socket:") {
			n++
		}
	}
	return n
}
