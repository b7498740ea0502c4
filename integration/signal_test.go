//go:build linux

package integration

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestASignalEndsAProgramAtOnceWhateverGoesOn(t *testing.T) {
	busy(t)
	// Each state is what n clients have done before the signal; done is how
	// they fare.
	payloads := func(n int) func(t *testing.T, s *service) []*client {
		return func(t *testing.T, s *service) []*client {
			clients := queue(t, s.port, n)
			for i, c := range clients {
				c.greet().send(strings.Repeat("x", 1+i*1000)).must(t)
			}
			s.dir.awaitHidden(n)
			return clients
		}
	}
	states := []struct {
		name    string
		only    string // the program, if not both
		plain   bool
		prelude string
		enter   func(t *testing.T, s *service) (connected []*client)
		done    []outcome
		some    bool // some have begun, however many, and failed
	}{
		{
			name:  "idle",
			enter: func(*testing.T, *service) []*client { return nil },
		},
		{
			name: "idle after some work",
			enter: func(t *testing.T, s *service) []*client {
				check(t, upload(s.port, "hello"))
				return nil
			},
			done: []outcome{received("hello")},
		},
		{
			name: "before the first confirmation",
			enter: func(t *testing.T, s *service) []*client {
				return []*client{s.connect().hear(greeting)}
			},
			done: []outcome{failed},
		},
		{
			name: "in the middle of the handshake",
			enter: func(t *testing.T, s *service) []*client {
				return []*client{s.connect().hear(greeting).sendApart(confirm).hear(greeting).sendApart(again[:22])}
			},
			done: []outcome{failed},
		},
		{
			name: "after the handshake",
			enter: func(t *testing.T, s *service) []*client {
				return []*client{s.connect().greet().taken()}
			},
			done: []outcome{failed},
		},
		{
			name: "in the middle of a payload",
			enter: func(t *testing.T, s *service) []*client {
				return []*client{s.connect().greet().pour(10, block).taken()}
			},
			done: []outcome{failed},
		},
		{
			name: "with a full queue",
			only: "server-s",
			enter: func(t *testing.T, s *service) []*client {
				clients := queue(t, s.port, 200)
				for i, c := range clients[1:] {
					switch i % 3 {
					case 0:
						c.send(header, "in vain").halfClose()
					case 1:
						c.send(confirm)
					}
				}
				clients[0].greet().send("hello").taken()
				return clients
			},
			done: []outcome{failed},
		},
		{
			name:    "with a full queue",
			only:    "server",
			prelude: "ulimit -n 64", // which is less than enough
			enter: func(t *testing.T, s *service) []*client {
				clients := queue(t, s.port, 200)
				for _, c := range clients {
					c.send(header, "in vain")
				}
				clients[0].hearAll(greeting + greeting).taken()
				return clients
			},
			some: true,
		},
		{
			name:  "in the middle of 20 payloads",
			only:  "server",
			enter: payloads(20),
			done:  repeat(20, failed),
		},
		{
			name:  "in the middle of 200 payloads",
			only:  "server",
			plain: true,
			enter: payloads(200),
			done:  repeat(200, failed),
		},
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
		t.Run(strings.ToUpper(sig.String()), func(t *testing.T) {
			bothServers(t, func(t *testing.T, program string) {
				for _, state := range states {
					if state.only != "" && state.only != program {
						continue
					}
					t.Run(state.name, func(t *testing.T) {
						options := []option{after(state.prelude)}
						if state.plain || sig != syscall.SIGTERM { // races show as well with one signal
							options = append(options, plain)
						}
						s := serve(t, program, options...)
						clients := state.enter(t, s)
						for _, c := range clients {
							c.must(t)
						}
						s.halt(sig)
						// Nobody may take this for success.
						for _, c := range clients {
							if end, err := c.endedAfter(greeting + greeting); err != nil || end != rst {
								t.Errorf("the client sees %s, %v", end, err)
							}
						}
						if state.some {
							state.done = repeat(len(s.dir.names()), failed)
							if n := len(state.done); n == 0 || n == len(clients) {
								t.Errorf("%d of %d clients were being served", n, len(clients))
							}
						}
						s.left(state.done...)

						// The next takes over at once.
						next := serve(t, program, plain, onPort(s.port))
						check(t, upload(next.port, "and on it goes"))
						next.stop(received("and on it goes"))
					})
				}
			})
		})
	}
}

func repeat(n int, o outcome) (all []outcome) {
	for range n {
		all = append(all, o)
	}
	return all
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
