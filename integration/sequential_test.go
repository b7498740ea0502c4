//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestServerSServesOneClientAtATimeInOrderOfArrival(t *testing.T) {
	busy(t)
	s := serve(t, "server-s")
	// More than the queue of a listening socket has to hold, at the least.
	clients := queue(t, s.port, 200)
	// Half of them say all they have to say before they are asked.
	early := func(i int) bool { return i%2 == 1 }
	payload := func(i int) string { return strings.Repeat("x", i) }
	for i, c := range clients {
		if early(i) {
			check(t, c.send(header+payload(i)).halfClose().err)
		}
	}
	for i, c := range clients {
		if !early(i) {
			c.greet().send(payload(i)).taken().must(t)
		}
		for _, other := range clients[i+1:] {
			if !early(i) {
				other.waiting().must(t)
			}
		}
		if early(i) {
			check(t, c.hearAll(greeting+greeting).fin())
		} else {
			check(t, c.halfClose().fin())
		}
		s.outcome(received(payload(i)))
	}
	s.stop()
}

// Also where standard output is a pipe, as it is in the other tests, or a file.
func TestServerSPrintsEachLineAsSoonAsTheConnectionEnds(t *testing.T) {
	busy(t)
	t.Run("to a pipe", func(t *testing.T) {
		s := serve(t, "server-s")
		for n := range 10 {
			// The next client is there and keeps the server busy.
			c, next := s.connect().greet().must(t), s.connect().must(t)
			check(t, c.send(strings.Repeat("x", n)).halfClose().fin())
			next.greet().must(t)
			s.outcome(outcome{line: strconv.Itoa(n)})
			check(t, next.halfClose().fin())
			s.outcome(received(""))
		}
		s.stop()
	})
	t.Run("to a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out")
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		s := serve(t, "server-s", printingTo(out))
		want := ""
		printed := func() {
			t.Helper()
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Fatalf("the file holds %q, %v; want %q", got, err, want)
			}
		}
		for n := range 5 {
			// An orderly close says that the payload is counted, so the count
			// is out by then.
			check(t, upload(s.port, strings.Repeat("x", n)))
			want += strconv.Itoa(n) + "\n"
			printed()
		}
		check(t, s.connect().hear(greeting).send(confirm).hear(greeting).send("nonsense").rst())
		want += "ERROR\n"
		printed()
		s.halt(os.Interrupt)
		printed()
	})
}

func TestServerSServesTheNextWhateverBecameOfTheOneBefore(t *testing.T) {
	busy(t)
	s := serve(t, "server-s")
	clients := queue(t, s.port, 6)
	clients[1].send("nonsense")
	clients[2].reset()
	clients[3].send(header, "hello").reset()
	clients[4].send(confirm).halfClose()
	clients[5].send(header, "goodbye").halfClose()
	check(t, clients[0].greet().reset().err)
	s.outcome(failed)
	for range 3 {
		s.outcome(failed)
	}
	s.outcome(received(""))
	s.outcome(received("goodbye"))
	check(t, clients[5].hearAll(greeting+greeting).fin())
	s.stop()
}

// Each client has its ten seconds from the moment it is served, however long it
// has waited for its turn.
func TestServerSDoesNotHoldItsQueueAgainstClients(t *testing.T) {
	t.Parallel()
	s := serve(t, "server-s", plain)
	first := s.connect().hear(greeting).must(t)
	second, third := s.connect().must(t), s.connect().must(t)
	check(t, first.fin())
	s.outcome(failed)
	second.hear(greeting).must(t)
	third.waiting().must(t)
	check(t, second.goesSilentAfter(""))
	s.outcome(failed)
	check(t, third.greet().send("hello").halfClose().fin())
	s.outcome(received("hello"))
	s.stop()
}

func TestServerSEndsWhenItCannotPrint(t *testing.T) {
	busy(t)
	tests := []struct {
		name string
		out  func(t *testing.T) *os.File
	}{
		{"since nobody reads the pipe", func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			check(t, err)
			check(t, r.Close())
			return w
		}},
		{"since the disk is full", func(t *testing.T) *os.File {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			check(t, err)
			return full
		}},
	}
	scripts := []struct {
		name string
		run  func(c *client) (ending, error)
	}{
		{"the count", func(c *client) (ending, error) { return c.greet().send("hello").halfClose().ended() }},
		{"ERROR", func(c *client) (ending, error) { return c.hear(greeting).send("nonsense").ended() }},
	}
	for _, tt := range tests {
		for _, script := range scripts {
			t.Run(script.name+" "+tt.name, func(t *testing.T) {
				out := tt.out(t)
				defer out.Close()
				s := serve(t, "server-s", printingTo(out))
				c, next := s.connect(), s.connect()
				end, err := script.run(c)
				check(t, err)
				if end != rst {
					t.Errorf("the client, who was not counted, sees %s", end)
				}
				if code := s.exit(); code <= 0 {
					t.Errorf("exit code %d", code)
				}
				s.complaint()
				s.silent()
				check(t, next.rst())
			})
		}
	}
}

// A line that nobody takes keeps the server waiting, but not from ending.
func TestServerSEndsAlsoWhileItWaitsToPrint(t *testing.T) {
	busy(t)
	r, w, err := os.Pipe()
	check(t, err)
	defer r.Close()
	defer w.Close()
	fd := int(w.Fd())
	check(t, syscall.SetNonblock(fd, true))
	for err == nil {
		_, err = syscall.Write(fd, []byte("x")) // until the pipe is full
	}
	if err != syscall.EAGAIN {
		t.Fatal(err)
	}
	check(t, syscall.SetNonblock(fd, false))
	s := serve(t, "server-s", printingTo(w))
	c, next := s.connect().greet().send("hello").halfClose(), s.connect()
	c.taken().must(t)
	next.waiting().must(t)
	s.halt(syscall.SIGTERM)
	check(t, c.rst()) // it was not counted
	check(t, next.rst())
	s.silent()
}

// What is counted has no bounds of 32 bits.
func TestServerSCountsBeyondFourGigabytes(t *testing.T) {
	busy(t)
	s := serve(t, "server-s", plain)
	const blocks = 1<<12 + 1
	check(t, s.connect().greet().pour(blocks, block).halfClose().fin())
	s.outcome(outcome{line: strconv.FormatInt(blocks<<20, 10)})
	s.stop()
}
