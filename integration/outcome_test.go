//go:build linux

package integration

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The rows of the README's table of how a connection can end. That of a stop by
// a signal is in signal_test.go, that of a file that cannot be stored in
// storage_test.go.

const (
	// silence is how long a client may say nothing, and measured how exactly
	// that is. The race detector would blur it, so the tests of it do without.
	silence  = 10 * time.Second
	measured = 500 * time.Millisecond
)

// heard is the greetings that a client has heard once the server has taken so
// many bytes of the header.
func heard(bytes int) string {
	if bytes < len(confirm) {
		return greeting
	}
	return greeting + greeting
}

func TestTheEndOfTheStreamWithinTheHeaderMakesAnEmptyPayload(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		for at := range len(header) + 1 {
			if err := s.connect().send(header[:at]).hearAll(heard(at)).halfClose().fin(); err != nil {
				t.Errorf("after %d bytes: %v", at, err)
			}
			s.outcome(received(""))
		}
		s.stop()
	})
}

func TestAWrongByteEndsTheConnectionAtOnce(t *testing.T) {
	busy(t)
	type wrong struct{ name, right, wrong string }
	tests := []wrong{
		{"HTTP", "", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"TLS", "", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
		{"a zero byte", "", "\x00"},
		{"a byte that is no text", "", "\xff"},
		{"an empty line", "", "\r\n"},
		{"the greeting, sent back", "", greeting},
		{"the second confirmation for the first", "", again},
		{"the first confirmation in capitals", "", strings.ToUpper(confirm)},
		{"the first confirmation after a blank", "", " " + confirm},
		{"the first confirmation, ended by a newline alone", "", "confirm-accio\n"},
		{"the first confirmation, ended by a carriage return alone", "", "confirm-accio\rc"},
		{"the first confirmation, ended by a blank line", "", "confirm-accio\r\n\r\n"},
		{"the first confirmation twice", confirm, confirm},
		{"the second confirmation, ended by one line end", confirm, "confirm-accio-again\r\nx"},
		{"the second confirmation, ended by newlines alone", confirm, "confirm-accio-again\n\n"},
		{"the second confirmation in capitals", confirm, strings.ToUpper(again)},
		{"a megabyte without a line end", "", strings.Repeat("x", 1<<20)},
		{"a megabyte after the first confirmation", confirm, strings.Repeat("\r\n", 1<<19)},
	}
	for at := range len(header) {
		tests = append(tests, wrong{fmt.Sprintf("byte %d", at+1), header[:at], flip(header[at : at+1])})
	}
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		for _, tt := range tests {
			c := s.connect().send(tt.right).hearAll(heard(len(tt.right)))
			start := time.Now()
			due := ""
			if tt.right == "" && strings.HasPrefix(tt.wrong, confirm) {
				due = greeting // which a reset may take back
			}
			if _, err := c.send(tt.wrong).endedAfter(due); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			s.outcome(failed)
			if took := time.Since(start); took > silence/2 {
				t.Errorf("%s: it took %v until the connection was ended", tt.name, took)
			}
		}
		// Wrong is wrong, whether or not the stream has ended as well.
		for at := range len(header) {
			c := s.connect().send(header[:at] + flip(header[at:at+1])).halfClose()
			if _, err := c.endedAfter(heard(at)); err != nil {
				t.Errorf("byte %d wrong before the end of the stream: %v", at+1, err)
			}
			s.outcome(failed)
		}
		s.stop()
	})
}

// flip changes one bit of the byte.
func flip(b string) string { return string([]byte{b[0] ^ 1}) }

func TestSilenceOfTenSecondsEndsTheConnection(t *testing.T) {
	t.Parallel()
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "server", plain)
		// After each part of the header, and in the payload.
		stops := []string{header + "x", header + strings.Repeat("x", 1<<20)}
		for at := range len(header) + 1 {
			stops = append(stops, header[:at])
		}
		var want []outcome
		clients := queue(t, s.port, len(stops))
		together(t, len(stops), func(i int) error {
			return clients[i].hear(greeting).goesSilentAfter(stops[i])
		})
		for range stops {
			want = append(want, failed)
		}
		s.stop(want...)
	})
	for _, tt := range []struct{ name, sent string }{
		{"nothing", ""},
		{"a part of the first confirmation", confirm[:14]},
		{"the first confirmation", confirm},
		{"a part of the second confirmation", confirm + again[:22]},
		{"the header", header},
		{"a part of the payload", header + everyByte},
		{"much of the payload", header + strings.Repeat("x", 1<<20)},
	} {
		t.Run("server-s after "+tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "server-s", plain)
			c := s.connect().hear(greeting)
			next := s.connect()
			check(t, c.goesSilentAfter(tt.sent))
			s.outcome(failed)
			// The next in the queue is served as if nothing had been.
			check(t, next.greet().send("hello").halfClose().fin())
			s.outcome(received("hello"))
			s.stop()
		})
	}
}

// goesSilentAfter sends something after the first greeting, and then nothing
// more. It expects an orderly close ten seconds later, and only the greetings
// that are due.
func (c *client) goesSilentAfter(sent string) error {
	before := time.Now()
	if sent == "" {
		before = c.heard
	}
	c.send(sent).hearAll(strings.TrimPrefix(heard(len(sent)), greeting)).taken()
	after := time.Now()
	if err := c.fin(); err != nil {
		return err
	}
	if s := time.Since(before); s < silence-measured {
		return fmt.Errorf("%s: closed %v after the last of %d bytes", c.name, s, len(sent))
	}
	if s := time.Since(after); s > silence+measured {
		return fmt.Errorf("%s: closed as late as %v after the last of %d bytes", c.name, s, len(sent))
	}
	return nil
}

func TestOneByteRestartsTheTenSeconds(t *testing.T) {
	t.Parallel()
	// Each piece is sent after a pause.
	slow := []struct {
		name    string
		begin   string
		pause   time.Duration
		pieces  []string
		payload string
	}{
		{"nine seconds between bytes of payload", header, 9 * time.Second, []string{"a", "b"}, "ab"},
		{"nine seconds between bytes of the header", "", 9 * time.Second, []string{"c", "o"}, ""},
		{"four seconds between bytes of payload", header + "x", 4 * time.Second, eachByte("12345"), "x12345"},
		{"four seconds between confirmations and payload", "", 4 * time.Second, []string{confirm, again, "\r", "\n", "x"}, "\r\nx"},
		{"four seconds between bytes of the first confirmation", "", 4 * time.Second, eachByte("confi"), ""},
		{"four seconds between bytes of the second confirmation", confirm + again[:18], 4 * time.Second, eachByte(again[18:]), ""},
		{"four seconds between megabytes", header, 4 * time.Second, []string{mib, mib, mib, mib, mib}, mib + mib + mib + mib + mib},
		{"nine seconds before the end of the stream", header + "x", 9 * time.Second, []string{""}, "x"},
	}
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "server", plain)
		clients := queue(t, s.port, len(slow))
		together(t, len(slow), func(i int) error {
			return clients[i].hear(greeting).plods(slow[i].begin, slow[i].pause, slow[i].pieces).halfClose().fin()
		})
		var want []outcome
		for _, sl := range slow {
			want = append(want, received(sl.payload))
		}
		s.stop(want...)
	})
	for _, sl := range slow {
		t.Run("server-s with "+sl.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "server-s", plain)
			check(t, s.connect().hear(greeting).plods(sl.begin, sl.pause, sl.pieces).halfClose().fin())
			s.outcome(received(sl.payload))
			s.stop()
		})
	}
}

var mib = strings.Repeat("m", 1<<20)

// plods sends each piece after a pause, in which the server has to wait as well.
func (c *client) plods(begin string, pause time.Duration, pieces []string) *client {
	c.send(begin).hearAll(strings.TrimPrefix(heard(len(begin)), greeting))
	confirmed := begin
	for _, piece := range pieces {
		c.quiet(pause).send(piece)
		if len(confirmed) < len(confirm) && len(confirmed)+len(piece) >= len(confirm) {
			c.hear(greeting)
		}
		confirmed += piece
	}
	return c
}

// What counts is when the client has sent, not when the program got round to
// reading it.
func TestTheTenSecondsAreTheClientsNotTheServers(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, plain)
		c := s.connect().greet().send("a").taken().must(t)
		s.freeze()
		check(t, c.quiet(8*time.Second).send("b").quiet(4*time.Second).err)
		s.thaw()
		check(t, c.send("c").halfClose().fin())
		s.outcome(received("abc"))
		s.stop()
	})
}

// Whatever the server is doing at that moment.
func TestAResetIsNeverTakenForTheEndOfTheStream(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program, plain)
		const workers, each = 4, 250
		together(t, workers, func(int) error {
			for i := range each {
				c := connect(s.port).greet().send("hello").taken()
				if c.err != nil {
					return c.err
				}
				c.conn.SetLinger(0)
				c.send("!")
				// The server has noticed the last byte, and is about to take
				// it, is taking it, or has, and is about to wait for more.
				wait := time.Duration(i%50) * time.Microsecond
				for begin := time.Now(); time.Since(begin) < wait; {
					runtime.Gosched()
				}
				c.close()
			}
			return nil
		})
		for range workers * each {
			s.outcome(failed)
		}
		s.stop()
	})
}

func TestAResetEndsTheConnection(t *testing.T) {
	busy(t)
	type broken struct {
		name   string
		script func(c *client) *client
	}
	var tests []broken
	for at := range len(header) + 1 {
		tests = append(tests, broken{fmt.Sprintf("after %d bytes of the header", at), func(c *client) *client {
			return c.send(header[:at]).hearAll(heard(at)).taken().reset()
		}})
	}
	tests = append(tests,
		broken{"before anything", func(c *client) *client { return c.reset() }},
		broken{"right after the header", func(c *client) *client { return c.send(header).reset() }},
		broken{"right after some payload", func(c *client) *client { return c.send(header + "hello").reset() }},
		broken{"in the payload", func(c *client) *client { return c.greet().send("hello").taken().reset() }},
		broken{"deep in the payload", func(c *client) *client { return c.greet().pour(8, block).taken().reset() }},
		broken{"in the middle of a megabyte", func(c *client) *client { return c.greet().send(mib).reset() }},
		broken{"by a close that leaves a greeting unheard", func(c *client) *client {
			if !poll(func() bool { return c.pending() == len(greeting) }) {
				return c.fail("waiting", fmt.Errorf("%d bytes came", c.pending()))
			}
			return c.send(confirm[:5]).close()
		}},
	)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		for _, tt := range tests {
			if err := tt.script(s.connect()).err; err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			s.outcome(failed)
		}
		check(t, upload(s.port, "hello"))
		s.stop(received("hello"))
	})
}
