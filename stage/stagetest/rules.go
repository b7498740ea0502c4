package stagetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// rules are all there are.
var rules = []rule{
	{"payload", "what the peer sends after what the stage takes of it reaches the sink, however it is cut",
		"stage.Stage and stage.Gate", checkPayload},
	{"next-once", "the next handler is called once, or not at all",
		"stage.Stage, and CONTRIBUTING.md, Add a stage", checkNextOnce},
	{"errors", "what the next handler returned and how the connection failed, or was ended from outside, is passed on, for errors.Is",
		"stage.Stage, stage.Conn.In and stage.Gate", checkErrors},
	{"panic", "a panic of the next handler passes by, as it is",
		"stage.Bracket; stage.Recover is the one to catch it", checkPanic},
	{"after", "whatever ended a connection, a panic included, the stage acts on it and gives back what it held",
		"stage.Bracket", checkAfter},
	{"closes-nothing", "a stage closes neither the connection nor the sink",
		"stage.Handler and stage.Conn.Net", checkCloses},
	{"deadlines", "a stage sets the connection's deadlines by one of its own, and removes it",
		"stage.Deadline and stage.Conn.Net", checkDeadlines},
	{"goroutines", "every goroutine has an owner who waits for it",
		"CONTRIBUTING.md, Style", checkGoroutines},
	{"cancellation", "a handler returns soon after its context is cancelled",
		"stage.Handler and stage.Serve", checkCancellation},
	{"allocations", "to read and to write takes no allocation, once the payload flows",
		"stage.Gate", checkAllocations},
	{"concurrency", "many goroutines may serve at a time, each with its own connection",
		"stage.Handler", checkConcurrency},
	{"zero-copy", "the kernel moves the payload from a TCP connection into a file",
		"package stage, Zero-copy", checkZeroCopy},
}

// arrived says how what has been stored differs from what should have been, or is empty.
func (b *bench) arrived(r *end, number int, want []byte) string {
	got := r.sink.Bytes()
	if b.instance.Stored != nil {
		if len(got) > 0 {
			return "payload has gone past the stage, which is said to store it"
		}
		var err error
		if got, err = b.instance.Stored(uint64(number)); err != nil {
			return fmt.Sprintf("what is stored cannot be read: %v", err)
		}
	}
	return differs(got, want)
}

// wrong says what is wrong with a connection that should have ended well, or is empty.
func (b *bench) wrong(r *end, number int) string {
	_, want := b.payload(size)
	switch {
	case r.hung:
		return "it does not end"
	case r.panic != nil:
		return fmt.Sprintf("it panicked: %v", r.panic)
	case r.err != nil:
		return fmt.Sprintf("it ended with %v (the peer: %v)", r.err, r.peerErr)
	case r.peerErr != nil:
		return fmt.Sprintf("the peer: %v", r.peerErr)
	}
	return b.arrived(r, number, want)
}

func checkPayload(c *checking) {
	send, _ := c.payload(size)
	look := func(how string, cut func(net.Conn) net.Conn) {
		c.bubble(func(b *bench) {
			if wrong := b.wrong(b.play(received, cut), 1); wrong != "" {
				b.broken("%s: %s", how, wrong)
			}
		})
	}
	for _, n := range []int{1, 2, 3, 5, 7, 16, 61, 512, 4096} {
		look(fmt.Sprintf("cut to %d bytes", n), func(conn net.Conn) net.Conn { return memnet.Cut(conn, n, 0) })
		look(fmt.Sprintf("cut to %d bytes, whatever they are of", n),
			func(conn net.Conn) net.Conn { return memnet.Gather(memnet.Cut(conn, n, 0)) })
	}
	look("as the peer writes it", func(conn net.Conn) net.Conn { return conn })
	look("as much as can be in one piece", memnet.Gather)
	look("with pauses", func(conn net.Conn) net.Conn { return memnet.Cut(conn, max(len(send)/3, 1), time.Millisecond) })
}

func checkNextOnce(c *checking) {
	c.each(endings, func(b *bench, e ending) {
		r := b.play(e, nil)
		if r.calls > 1 {
			b.broken("when %s: it was called %d times", e.name, r.calls)
		}
		if r.calls == 0 && slices.Contains([]string{received.name, failed.name, failedLate.name, panicked.name, stopped.name,
			silenced.name, limited.name}, e.name) {
			b.broken("when %s: it was not called at all, though the peer has done what it should (%v)", e.name, r.peerErr)
		}
	})
}

func checkErrors(c *checking) {
	all := endings[:len(endings):len(endings)]
	for _, cause := range causes {
		all = append(all, ends(cause))
	}
	c.each(all, func(b *bench, e ending) {
		if e.name == panicked.name {
			return
		}
		r := b.play(e, nil)
		if len(e.is) == 0 && r.err != nil {
			b.broken("when %s: it ended with %v", e.name, r.err)
		}
		for _, is := range e.is {
			if !errors.Is(r.err, is) {
				b.broken("when %s: it ended with %v, which is no %q", e.name, r.err, is)
			}
		}
	})
}

func checkPanic(c *checking) {
	c.bubble(func(b *bench) {
		r := b.play(panicked, nil)
		switch {
		case c.Recovers && r.panic != nil:
			b.broken("the panic has passed by, and was to be an error")
		case c.Recovers && !errors.Is(r.err, stage.ErrPanic):
			b.broken("the panic has become %v, which is no stage.ErrPanic", r.err)
		case !c.Recovers && r.panic == nil:
			b.broken("the panic is lost; the stage returned %v", r.err)
		case !c.Recovers && r.panic != errPanicked:
			b.broken("the panic's value has become %v", r.panic)
		}
	})
}

// repeats is how often a connection ends in one way before it is looked at whether
// another is served.
const repeats = 12

func checkAfter(c *checking) {
	c.each(endings, func(b *bench, e ending) {
		for range repeats {
			b.play(e, nil)
			if ended := b.instance.Ended; ended != nil && ended() != b.served {
				b.broken("when %s: the stage has acted on the end of %d connections of %d", e.name, ended(), b.served)
				return
			}
		}
		r := b.play(received, nil)
		if wrong := b.wrong(r, b.served); wrong != "" {
			b.broken("after %d times in which %s, the next connection is not served: %s", repeats, e.name, wrong)
		}
	})
}

func checkCloses(c *checking) {
	c.each(endings, func(b *bench, e ending) {
		if r := b.play(e, nil); len(r.closed) > 0 {
			b.broken("when %s: the stage closed %s", e.name, strings.Join(r.closed, " and "))
		}
	})
}

func checkDeadlines(c *checking) {
	c.each(endings, func(b *bench, e ending) {
		r := b.play(e, nil)
		if e.cancel { // which sets one, and nobody is to move it
			if time.Until(r.read) > 0 || r.read.IsZero() {
				b.broken("when %s: the read deadline that ends all I/O has been moved to %v", e.name, r.read)
			}
			return
		}
		if r.late != nil {
			b.broken("when %s: a deadline is left that has passed: %v", e.name, r.late)
		}
		if !r.read.IsZero() {
			b.broken("when %s: a read deadline is left, in %v", e.name, time.Until(r.read))
		}
		if !r.write.IsZero() {
			b.broken("when %s: a write deadline is left, in %v", e.name, time.Until(r.write))
		}
	})
}

func checkGoroutines(c *checking) {
	c.each(endings, func(b *bench, e ending) {
		before := goroutines()
		b.play(e, nil)
		for id, what := range goroutines() {
			if _, known := before[id]; !known {
				b.broken("when %s, this is left: %s", e.name, what)
			}
		}
	})
}

func checkCancellation(c *checking) {
	c.each([]ending{stopped, stoppedSilent, stoppedDeaf}, func(b *bench, e ending) {
		r := b.play(e, nil)
		switch {
		case r.hung:
			b.broken("when %s: the connection does not end", e.name)
		case r.took > soon:
			b.broken("when %s: the connection ends after %v, want %v at the most", e.name, r.took, soon)
		}
	})
}

func checkAllocations(c *checking) {
	const rounds = 10
	send, want := c.payload(size)
	reads := min(1000, (len(want)-1)/rounds)
	if reads < 10 {
		c.Skipf("%d bytes are too few to tell", len(want))
	}
	c.bubble(func(b *bench) {
		fewest := uint64(1 << 62) // of what others allocate meanwhile there is less in one round than in another
		e := ending{
			peer: func(before memnet.Peer, _ []byte) memnet.Peer {
				return then(before, memnet.Say(string(send)), memnet.HalfClose)
			},
			next: func(_ context.Context, c *stage.Conn) error {
				synctest.Wait() // until the peer has said all
				buf := make([]byte, 1)
				var a, z runtime.MemStats
				for range rounds {
					runtime.ReadMemStats(&a)
					for range reads {
						n, err := c.In.Read(buf)
						if err == nil && b.instance.Stored == nil {
							_, err = c.Out.Write(buf[:n])
						}
						if err != nil {
							return err
						}
					}
					runtime.ReadMemStats(&z)
					fewest = min(fewest, z.Mallocs-a.Mallocs)
				}
				return nil
			},
		}
		b.measure(e)
		if fewest >= uint64(reads)/2 {
			b.broken("%d reads and writes took %d allocations", reads, fewest)
		}
	})
}

// measure serves a connection on this goroutine, and with a sink that takes nothing.
func (b *bench) measure(e ending) {
	server, client := memnet.Pair()
	server.SetReadBuffer(1 << 30)
	send, _ := b.payload(size)
	conn := &connection{Conn: server, end: new(end), ending: e}
	conn.sink.Grow(len(send) + len(b.Want))
	peer := e.peer(b.Before, send).Start(client)
	stage.Serve(b.t.Context(), conn, 1, b.handler)
	if conn.err != nil || conn.panic != nil {
		b.Errorf("it ended with %v, %v", conn.err, conn.panic)
	}
	client.Close()
	peer()
}

// crowd is how many connections are served at a time.
const crowd = 60

func checkConcurrency(c *checking) {
	c.bubble(func(b *bench) {
		kinds := []ending{received, received, received, failed, broken, panicked}
		ends := make([]func() *end, crowd)
		for i := range ends {
			ends[i] = b.start(kinds[i%len(kinds)], func(conn net.Conn) net.Conn { return memnet.Cut(conn, 100+i, time.Millisecond) }, host(i))
		}
		for i, end := range ends {
			e, r := kinds[i%len(kinds)], end()
			if e.name != received.name {
				continue
			}
			if wrong := b.wrong(r, i+1); wrong != "" {
				b.broken("connection %d of %d: %s", i+1, crowd, wrong)
			}
		}
	})
}
