//go:build linux

package integration

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What can become of a connection in general is asked by the conformance kit,
// whose criteria our programs are judged by too. Here is what it cannot ask of
// every program.

// What the client has sent before it closed is all there, also if it has never
// listened, and its closed connection answers the greetings with resets.
func TestAClientMaySendAllAndCloseWithoutListening(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		// While the program is stopped, the kernel takes what clients send. A
		// greeting that is there, unheard, when the client closes, would make
		// the kernel break the connection off instead of ending it.
		s.freeze()
		ways := []struct {
			pieces []string
			want   outcome
		}{
			{[]string{header + "hello"}, received("hello")},
			{[]string{confirm, again, "hello", "hello"}, received("hellohello")},
			{[]string{header}, received("")},
			{[]string{header[:len(header)-1]}, received("")},
			{[]string{confirm}, received("")},
			{[]string{confirm[:5]}, received("")},
			{nil, received("")},
			{[]string{header, strings.Repeat(everyByte, 100)}, received(strings.Repeat(everyByte, 100))},
			{[]string{confirm, "nonsense"}, failed},
			{[]string{"nonsense"}, failed},
		}
		clients := queue(t, s.port, len(ways))
		for i, way := range ways {
			check(t, clients[i].send(way.pieces...).close().err)
		}
		s.thaw()
		for _, way := range ways {
			s.outcome(way.want)
		}
		check(t, upload(s.port, "goodbye"))
		s.stop(received("goodbye"))
	})
}

// TCP has bytes that are marked as urgent, as telnet does in an emergency. They
// stand in the stream as all others do (RFC 6093), and are not its end.
func TestUrgentBytesArePayloadAsAllOthers(t *testing.T) {
	busy(t)
	long := strings.Repeat(everyByte, 400)
	tests := []struct{ name, before, urgent, after string }{
		{"in the middle", "abc", "D", "efg"},
		{"in the middle of much", long, "D", long},
		{"at the beginning", "", "A", "bcd"},
		{"at the end", "abc", "D", ""},
	}
	bothServers(t, func(t *testing.T, program string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				s := serve(t, program)
				c := s.connect().greet().send(tt.before).taken().sendUrgent(tt.urgent).send(tt.after)
				if err := c.halfClose().fin(); err != nil {
					t.Error(err)
				}
				s.stop(received(tt.before + tt.urgent + tt.after))
			})
		}
	})
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

// What is counted has no bounds of 32 bits, and is not kept.
func TestServerSCountsBeyondFourGigabytes(t *testing.T) {
	busy(t)
	s := serve(t, "server-s", plain)
	const blocks = 1<<12 + 1
	check(t, s.connect().greet().pour(blocks, block).halfClose().fin())
	s.outcome(outcome{line: strconv.FormatInt(blocks<<20, 10)})
	const bound = 32 << 10 // kB
	if peak := s.field("status", "VmHWM"); peak > bound {
		t.Errorf("the program has taken up to %d kB of memory; want %d at most", peak, bound)
	}
	s.stop()
}
