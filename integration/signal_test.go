//go:build linux

package integration

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Clients that were never served are told, too, and have no number.
func TestASignalEndsAProgramThatCannotAcceptMore(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
			t.Run(strings.ToUpper(sig.String()), func(t *testing.T) {
				s := serve(t, program, after(few))
				clients := queue(t, s.port, 200)
				for _, c := range clients[1:] {
					c.send(header, "in vain").must(t)
				}
				clients[0].greet().send("hello").taken().must(t)
				s.halt(sig)
				// Nobody may take this for success.
				for _, c := range clients {
					if end, err := c.endedAfter(greeting + greeting); err != nil || end != rst {
						t.Errorf("the client sees %s, %v", end, err)
					}
				}
				begun := 1
				if program == "server" {
					begun = len(s.dir.names())
					if begun < 2 || begun == len(clients) {
						t.Errorf("%d of %d clients were being served", begun, len(clients))
					}
				}
				s.left(slices.Repeat([]outcome{failed}, begun)...)

				// The next takes over at once.
				next := serve(t, program, plain, onPort(s.port))
				check(t, upload(next.port, "and on it goes"))
				next.stop(received("and on it goes"))
			})
		}
	})
}

// More signals, from a user who is in a hurry, change nothing.
func TestSignalsMayComeInNumbers(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		for _, more := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
			t.Run(strings.ToUpper(more.String()), func(t *testing.T) {
				s := serve(t, program)
				c := s.connect().greet().send("hello").taken().must(t)
				s.signal(syscall.SIGTERM)
				for s.running() {
					// Unless it has just ended.
					if err := s.cmd.Process.Signal(more); err != nil && !errors.Is(err, os.ErrProcessDone) {
						t.Fatal(err)
					}
				}
				if code := s.exit(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				check(t, c.rst())
				s.left(failed)
			})
		}
	})
}

// However many there are, they are all told, and nothing of them is left.
func TestASignalEndsHundredsOfUploads(t *testing.T) {
	busy(t)
	s := serve(t, "server", plain)
	const n = 500
	clients := queue(t, s.port, n)
	for i, c := range clients {
		c.send(header, strings.Repeat("x", 1+i)).must(t)
	}
	for _, c := range clients {
		c.hearAll(greeting + greeting).must(t)
	}
	s.dir.awaitHidden(n)
	s.halt(syscall.SIGTERM)
	s.silent()
	together(t, n, func(i int) error { return clients[i].rst() })
	for _, name := range s.dir.names() {
		if name[0] == '.' {
			t.Errorf("%s is left", name)
		} else {
			s.dir.holdsAt(name, "ERROR")
		}
	}
}
