//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
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

func TestAFloodOfGarbageAndResetsDoesNotStopTheServiceForOthers(t *testing.T) {
	busy(t)
	const flooders, each, honest = 10, 150, 20
	garbage := make([]byte, 4096)
	rand.NewChaCha8([32]byte{}).Read(garbage)
	garbage[0] = 0xff // which begins no confirmation
	flood := func(port int) {
		c := connect(port)
		switch rand.IntN(8) {
		case 0:
			c.reset()
		case 1:
			c.send(string(garbage)).reset()
		case 2:
			c.send(string(garbage)).close()
		case 3:
			c.send(header, string(garbage)).reset()
		case 4:
			c.send(confirm, string(garbage)).endedAfter(greeting + greeting)
		case 5:
			c.send(header[:rand.IntN(len(header))]).reset()
		case 6:
			c.close()
		case 7:
			c.send("\r\n").endedAfter(greeting)
		}
		c.close()
	}
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
