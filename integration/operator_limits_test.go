//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the programs do by the flags of whoever runs them.

func TestMaxSize(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program, with("--max-size=1KiB"))
		fits := strings.Repeat("x", 1024)
		check(t, upload(s.port, fits))
		s.outcome(received(fits))
		// At once, and not at the end.
		check(t, s.connect().greet().send(fits, "y").rst())
		s.outcome(failed)
		check(t, s.connect().greet().pour(64, block).halfClose().rst())
		s.outcome(failed)
		check(t, upload(s.port, "small"))
		s.stop(received("small"))
	})
}

// drip sends a byte of s now and then, until the server has had enough.
func (c *client) drip(every time.Duration, s string) *client {
	for i := range len(s) {
		c.send(s[i : i+1])
		if c.err != nil || c.end != "" {
			break
		}
		got, err := c.read(every)
		if len(got) == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		switch {
		case errors.Is(err, syscall.ECONNRESET):
			c.end = rst
		default:
			c.fail("dripping", fmt.Errorf("got %q, %v", got, err))
		}
		break
	}
	return c
}

// takes checks that a script takes so long, and hardly more: the machine is busy,
// and how exact a limit is has been tested where time is none.
func takes(t *testing.T, least time.Duration, script func() error) {
	t.Helper()
	const late = 4 * time.Second
	begun := time.Now()
	check(t, script())
	if took := time.Since(begun); took < least || took > least+late {
		t.Errorf("it took %v, want %v", took, least)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with("--handshake-timeout=1s"))
		takes(t, time.Second, func() error {
			return s.connect().hear(greeting).drip(200*time.Millisecond, confirm).rst()
		})
		s.outcome(failed)
		takes(t, time.Second, func() error {
			return s.connect().hear(greeting).send(confirm).hear(greeting).rst()
		})
		s.outcome(failed)
		// The payload has all the time it wants.
		check(t, s.connect().greet().send("slow").quiet(1500*time.Millisecond).send("ly").halfClose().fin())
		s.stop(received("slowly"))
	})
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with("--idle-timeout=2s"))
		takes(t, 2*time.Second, func() error { return s.connect().hear(greeting).fin() })
		s.outcome(failed)
		check(t, s.connect().greet().drip(500*time.Millisecond, "slowly").halfClose().fin())
		s.stop(received("slowly"))
	})
}

func TestNoIdleTimeout(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with("--idle-timeout=0"))
		check(t, s.connect().greet().quiet(10700*time.Millisecond).send("late").halfClose().fin())
		s.stop(received("late"))
	})
}

func TestMaxDuration(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with("--max-duration=2s"))
		takes(t, 2*time.Second, func() error {
			return s.connect().greet().drip(100*time.Millisecond, strings.Repeat("x", 100)).rst()
		})
		s.outcome(failed)
		takes(t, 2*time.Second, func() error { return s.connect().hear(greeting).rst() })
		s.outcome(failed)
		check(t, upload(s.port, "quick"))
		s.stop(received("quick"))
	})
}

// Who sends as fast as can be is ended as well.
func TestMaxDurationOfAClientThatIsFast(t *testing.T) {
	busy(t)
	s := serve(t, "server-s", with("--max-duration=1s"), plain)
	takes(t, time.Second, func() error {
		c := s.connect().greet()
		for begun := time.Now(); c.err == nil && c.end == "" && time.Since(begun) < patience; {
			c.pour(1, block)
		}
		return c.rst()
	})
	s.stop(failed)
}

func TestMinRate(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with("--min-rate=50/s", "--min-rate-grace=2s"))
		takes(t, 2*time.Second, func() error {
			return s.connect().greet().drip(100*time.Millisecond, strings.Repeat("x", 100)).rst()
		})
		s.outcome(failed)
		// The handshake is not asked for it.
		c := s.connect().hear(greeting).quiet(1500 * time.Millisecond).send(confirm).hear(greeting).send(again)
		payload := strings.Repeat("x", 150)
		check(t, c.send(payload).quiet(700*time.Millisecond).send(payload).quiet(700*time.Millisecond).send(payload).halfClose().fin())
		s.stop(received(payload + payload + payload))
	})
}

// Of several limits that one applies which is nearest, and the others go on.
func TestLimitsTogether(t *testing.T) {
	t.Parallel()
	s := serve(t, "server", with("--handshake-timeout=4s", "--idle-timeout=6s", "--max-duration=10s", "--min-rate=1", "--min-rate-grace=8s", "--max-size=1MiB"))
	scripts := []struct {
		after time.Duration
		run   func(c *client) error
	}{
		{4 * time.Second, func(c *client) error { return c.hear(greeting).rst() }},
		{6 * time.Second, func(c *client) error { return c.greet().fin() }},
		{10 * time.Second, func(c *client) error {
			return c.greet().drip(250*time.Millisecond, strings.Repeat("x", 100)).rst()
		}},
		{0, func(c *client) error { return c.greet().pour(2, block).rst() }},
	}
	clients, begun := make([]*client, len(scripts)), make([]time.Time, len(scripts))
	for i := range clients {
		begun[i] = time.Now()
		clients[i] = s.connect().waitsForGreeting()
	}
	together(t, len(scripts), func(i int) error {
		err := scripts[i].run(clients[i])
		if took := time.Since(begun[i]); err == nil && (took < scripts[i].after || took > scripts[i].after+4*time.Second) {
			return fmt.Errorf("client %d ended after %v, want %v", i+1, took, scripts[i].after)
		}
		return err
	})
	check(t, upload(s.port, "well"))
	s.stop(failed, failed, failed, failed, received("well"))
}

// waitsForGreeting waits until a greeting is there to be read, so that the next
// client is accepted after this one.
func (c *client) waitsForGreeting() *client {
	if !poll(func() bool { return c.err != nil || c.pending() == len(greeting) }) {
		c.fail("waiting for a greeting", errors.New("none comes"))
	}
	return c
}

func TestMaxConns(t *testing.T) {
	busy(t)
	s := serve(t, "server", with("--max-conns=2"))
	a, b := s.connect().greet(), s.connect().greet()
	c := s.connect().quiet(300 * time.Millisecond)
	check(t, a.send("a").halfClose().fin())
	check(t, c.greet().send("c").halfClose().fin())
	check(t, b.send("b").halfClose().fin())
	s.stop(received("a"), received("b"), received("c"))
}

func TestMaxConnsPerIP(t *testing.T) {
	busy(t)
	s := serve(t, "server", with("--max-conns-per-ip=2"))
	a, b := s.connect().greet().must(t), s.connect().greet().must(t)
	refused := s.connect()
	if !errors.Is(refused.err, syscall.ECONNRESET) { // before it knows that it is connected
		check(t, refused.rst())
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.port))
	check(t, err)
	other := &client{conn: conn.(*net.TCPConn), port: s.port, name: "a client from elsewhere"}
	check(t, other.greet().send("other").halfClose().fin())
	check(t, a.send("a").halfClose().fin())
	check(t, upload(s.port, "again"))
	check(t, b.send("b").halfClose().fin())
	s.stop(received("a"), received("b"), failed, received("other"), received("again"))
}

func TestMinFree(t *testing.T) {
	busy(t)
	s := serve(t, "server", onDiskOf(8<<20), with("--min-free=4MiB"))
	large := strings.Repeat(string(block), 3)
	check(t, upload(s.port, large))
	s.outcome(received(large))
	idle := s.connect().greet().must(t)
	// What a file may not take is not taken in between either.
	s.fails(s.connect().greet().pour(3, block).halfClose(), "connection 3")
	check(t, upload(s.port, "small"))
	s.dir.await("4.file")
	// Space that has come back is used, also by who was there all the time.
	check(t, os.Remove(s.dir.join("1.file")))
	check(t, idle.send(large).halfClose().fin())
	s.want = append(s.want, received(large), failed, received("small"))
	s.want[0] = lost
	s.stop()
}

func TestDrain(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		t.Run("to the end", func(t *testing.T) {
			s := serve(t, program, with("--drain=1h"))
			c := s.connect().greet().send("hello, ").taken().must(t)
			s.signal(syscall.SIGTERM)
			if !poll(func() bool { return !s.listensOn(s.port) }) {
				t.Fatal("it still listens")
			}
			check(t, c.quiet(1500*time.Millisecond).send("world").halfClose().fin())
			if code := s.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			s.left(received("hello, world"))
		})
		t.Run("until its time is over", func(t *testing.T) {
			s := serve(t, program, with("--drain=1500ms"))
			c := s.connect().greet().send("hello").taken().must(t)
			s.signal(syscall.SIGINT)
			takes(t, 1400*time.Millisecond, c.rst)
			if code := s.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			s.left(failed)
		})
		for _, second := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run("until a second signal, "+second.String(), func(t *testing.T) {
				s := serve(t, program, with("--drain=1h"))
				c := s.connect().greet().send("hello").taken().must(t)
				s.signal(syscall.SIGTERM)
				c.quiet(1500 * time.Millisecond).must(t)
				if code := s.exitAfter(second); code != 0 {
					t.Errorf("exit code %d", code)
				}
				check(t, c.rst())
				s.left(failed)
			})
		}
		t.Run("and the log says how it gets on", func(t *testing.T) {
			for _, cut := range []bool{false, true} {
				s := serve(t, program, with("--drain=1h", "--log-level=info", "--log-format=json"))
				s.record() // it listens
				c := s.connect().greet().send("hello").taken().must(t)
				s.signal(syscall.SIGTERM)
				begins := []map[string]any{s.record(), s.record()} // stopping goes on at the same time
				if begins[0]["msg"] != "draining" {
					begins[0], begins[1] = begins[1], begins[0]
				}
				has(t, begins[0], map[string]any{"msg": "draining", "connections_left": 1, "at_most": 3600e9})
				if cut {
					s.signal(syscall.SIGTERM)
					check(t, c.rst())
				} else {
					check(t, c.halfClose().fin())
				}
				s.exit()
				said := ""
				for _, line := range s.stderr.rest() {
					r := recordOf(t, line)
					if r["msg"] == "drain cut off" {
						has(t, r, map[string]any{"connections_aborted": 1})
					}
					said += fmt.Sprint(r["msg"], "; ")
				}
				if want := map[bool]string{false: "drained", true: "drain cut off"}[cut]; !strings.Contains(said, want+"; ") {
					t.Errorf("it says %q, without %q", said, want)
				}
			}
		})
		t.Run("with nothing to do", func(t *testing.T) {
			s := serve(t, program, with("--drain=1h"))
			check(t, upload(s.port, "hello"))
			s.stop(received("hello"))
		})
	})
}

func TestContinue(t *testing.T) {
	busy(t)
	s := serve(t, "server", with("--continue"))
	check(t, upload(s.port, "first"))
	s.outcome(received("first"))
	s.stop()
	s.dir.put("41.file", "earlier")
	s.dir.put("100.file.bak", "not ours")
	next := serve(t, "server", with("--continue"), in(s.dir))
	check(t, upload(next.port, "second"))
	check(t, next.connect().hear(greeting).send("x").rst())
	s.dir.await("43.file")
	s.dir.put("44.file", "another's")
	next.fails(next.connect().greet().send("mine").halfClose(), "44.file conflicts with what is there")
	next.halt(syscall.SIGTERM)
	next.silent()
	s.dir.holds(map[string]string{
		"1.file": "first", "41.file": "earlier", "42.file": "second", "43.file": "ERROR", "44.file": "another's", "100.file.bak": "not ours",
	})
	s.dir.put("18446744073709551615.file", "the last")
	refuse(t, launch{program: "server", args: []string{fmt.Sprint(freePort(t)), s.dir.path, "--continue"}}, 1, "18446744073709551615")
}

// Payload moves in the kernel past all limits.
func TestThePayloadDoesNotPassThroughTheProgramWithLimits(t *testing.T) {
	busy(t)
	s := serve(t, "server", plain, with("--max-size=1GiB", "--max-conns=10", "--max-conns-per-ip=10",
		"--handshake-timeout=10s", "--max-duration=10m", "--min-rate=1KiB", "--min-free=1KiB", "--drain=1s", "--continue"))
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

func TestLimitsThatMakeNoSenseAreRefusedAtOnce(t *testing.T) {
	busy(t)
	both := [][]string{
		{"--max-size=-1", "--max-size", "-1", "10MiB"},
		{"--max-size=10M", "--max-size", "10M", "10MiB"},
		{"--handshake-timeout=-1s", "--handshake-timeout", "-1s", "0"},
		{"--idle-timeout=-1s", "--idle-timeout", "-1s", "0"},
		{"--idle-timeout=ten", "--idle-timeout", "ten"},
		{"--max-duration=-1h", "--max-duration", "-1h", "0"},
		{"--min-rate=-5", "--min-rate", "-5", "100KiB"},
		{"--min-rate-grace=0s", "--min-rate-grace", "0s", "10s"},
		{"--drain=-1m", "--drain", "-1m", "0"},
	}
	only := [][]string{
		{"--max-conns=-1", "--max-conns", "-1", "0"},
		{"--max-conns=many", "--max-conns", "many"},
		{"--max-conns-per-ip=-1", "--max-conns-per-ip", "-1", "0"},
		{"--min-free=lots", "--min-free", "lots", "10MiB"},
	}
	bothServers(t, func(t *testing.T, program string) {
		tests := both
		args := []string{"54321"}
		if program == "server" {
			tests = append(tests, only...)
			args = append(args, "files")
		}
		for _, tt := range tests {
			work := newDirectory(t)
			refuse(t, launch{program: program, args: append(args[:len(args):len(args)], tt[0]), workDir: work.path, plain: true}, 2, tt[1:]...)
			work.holds(nil)
		}
	})
}
