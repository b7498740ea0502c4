package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// size is that of a payload that is nothing but cut.
const size = 4_501

// soon is how long a connection may take to end when it is told to, in a bubble: what
// takes time there waits for it.
const soon = time.Second

// patience is how long a check waits for what does not end, in a bubble.
const patience = 24 * time.Hour

var errNext = errors.New("the next handler failed")

// ending is a way in which a connection ends.
type ending struct {
	name   string
	peer   func(before memnet.Peer, payload []byte) memnet.Peer
	deaf   bool        // the peer reads nothing
	limit  stage.Stage // outside of the stage, or nil
	next   stage.HandlerFunc
	cancel bool // the context, once nothing happens any more
	is     []error
}

func half(b []byte) string { return string(b[:len(b)/2]) }

func then(before memnet.Peer, steps ...memnet.Step) memnet.Peer {
	return append(before[:len(before):len(before)], steps...)
}

func sendsAll(before memnet.Peer, payload []byte) memnet.Peer {
	return then(before, memnet.Say(string(payload)), memnet.HalfClose)
}

func sendsHalf(before memnet.Peer, payload []byte) memnet.Peer {
	return then(before, memnet.Say(half(payload)))
}

func silent(memnet.Peer, []byte) memnet.Peer { return nil }

// pause is how long a client may be silent in the middle of its payload. All pauses of a
// connection are less than an hour, after which a stage may end it (Subject.New).
const pause = 10 * time.Minute

// sendsInPieces has the peer pause after each third of the payload.
func sendsInPieces(before memnet.Peer, payload []byte) memnet.Peer {
	for piece := range slices.Chunk(payload, len(payload)/3+1) {
		before = then(before, memnet.Say(string(piece)), memnet.Pause(pause))
	}
	return then(before, memnet.HalfClose)
}

// limitGate ends a payload with an error when the client goes on after a pause.
type limitGate struct {
	err  error
	last time.Time
}

// limit is a stage with a limitGate.
var limit = stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
	c.In = stage.NewReader(c.In, &limitGate{err: fmt.Errorf("payload: %w", stage.ErrTooLarge), last: time.Now()})
	return nil, nil
})

func (g *limitGate) Allow(max int) (int, error) { return max, nil }

func (g *limitGate) Passed(n int, err error) error {
	if n == 0 {
		return err
	}
	if time.Since(g.last) >= pause {
		return g.err
	}
	g.last = time.Now()
	return err
}

// errPanicked is what the next handler panics with.
var errPanicked = errors.New("the next handler panicked")

var (
	received = ending{name: "all is received", peer: sendsAll, next: stage.Receive.Serve}
	failed   = ending{name: "the next handler fails", peer: sendsAll, is: []error{errNext},
		next: func(context.Context, *stage.Conn) error { return errNext }}
	failedLate = ending{name: "the next handler fails when it has received all", peer: sendsAll, is: []error{errNext},
		next: func(ctx context.Context, c *stage.Conn) error {
			if err := stage.Receive.Serve(ctx, c); err != nil {
				return err
			}
			return errNext
		}}
	broken = ending{name: "the peer resets", is: []error{stage.ErrReset}, next: stage.Receive.Serve,
		peer: func(before memnet.Peer, payload []byte) memnet.Peer {
			return then(before, memnet.Say(half(payload)), memnet.Reset)
		}}
	panicked = ending{name: "the next handler panics", peer: sendsAll,
		next: func(context.Context, *stage.Conn) error { panic(errPanicked) }}
	stopped = ending{name: "the context is cancelled in the midst of the payload", peer: sendsHalf, cancel: true,
		is: []error{stage.ErrShutdown}, next: stage.Receive.Serve}
	stoppedSilent = ending{name: "the context is cancelled while the peer is silent", peer: silent, cancel: true,
		is: []error{stage.ErrShutdown}, next: stage.Receive.Serve}
	stoppedDeaf = ending{name: "the context is cancelled while the peer takes nothing", peer: silent, deaf: true, cancel: true,
		is: []error{stage.ErrShutdown}, next: stage.Receive.Serve}

	silenced = ending{name: "a stage outside ends it, because the peer is silent", peer: sendsHalf, limit: stage.Idle{Limit: pause},
		is: []error{stage.ErrIdle}, next: stage.Receive.Serve}
	limited = ending{name: "a stage outside ends it, by a limit", peer: sendsInPieces, limit: limit,
		is: []error{stage.ErrTooLarge, stage.ErrLimit}, next: stage.Receive.Serve}

	endings = []ending{
		received, failed, failedLate, broken, panicked, stopped, stoppedSilent, stoppedDeaf,
		silenced, limited,
	}
)

// causes are those of package stage, of which a handler may return any.
var causes = []error{
	stage.ErrIdle, stage.ErrProtocol, stage.ErrReset, stage.ErrShutdown, stage.ErrStorage, stage.ErrConflict, stage.ErrRejected,
	stage.ErrReport, stage.ErrPanic, stage.ErrLimit, stage.ErrTooLarge, stage.ErrTooLong, stage.ErrTooSlow,
	stage.ErrSlowHandshake, stage.ErrTooMany, stage.ErrNoSpace,
}

// ends is an ending in which the next handler has received all, and returns this cause.
func ends(cause error) ending {
	return ending{name: fmt.Sprintf("the next handler returns %q", cause), peer: sendsAll, is: []error{cause, errNext},
		next: func(ctx context.Context, c *stage.Conn) error {
			if err := stage.Receive.Serve(ctx, c); err != nil {
				return err
			}
			return fmt.Errorf("%w: %w", cause, errNext)
		}}
}

// bench is a stage in a chain of its own, in a bubble.
type bench struct {
	*checking
	t        *testing.T // of the bubble
	instance Instance
	handler  stage.Handler
	served   int      // connections
	conns    sync.Map // of Conn.Number to *connection; contexts carry no values
}

// each has f look at each ending, in a bubble of its own.
func (c *checking) each(endings []ending, f func(b *bench, e ending)) {
	for _, e := range endings {
		c.bubble(func(b *bench) { f(b, e) })
	}
}

func (c *checking) bubble(f func(b *bench)) {
	synctest.Test(c.T, func(t *testing.T) {
		in := *c
		in.T = t
		b := &bench{checking: &in, t: t, instance: c.New(t)}
		b.handler = stage.Chain{stage.StageFunc(b.outside), b.instance.Stage}.Then(stage.HandlerFunc(b.inside))
		f(b)
	})
}

// end is how a connection has ended.
type end struct {
	err     error // that the stage returned
	panic   any   // that passed by the stage
	calls   int   // of the next handler
	sink    bytes.Buffer
	closed  []string  // what the stage has closed
	read    time.Time // the deadlines it has left
	write   time.Time
	late    error         // of a deadline that was left and has passed
	took    time.Duration // to end when it was told to
	hung    bool          // it did not
	peerErr error
}

// connection is a connection that is watched while a stage has it.
type connection struct {
	memnet.Conn
	*end
	ending
	outer *stage.Conn // the stage was called with it

	mu     sync.Mutex
	inside bool // the stage has it
}

// outside stands around the stage, and is no Bracket, so that it sees what the stage
// has done when that has done all.
func (b *bench) outside(next stage.Handler) stage.Handler {
	return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) (err error) {
		w := c.Net.(*connection)
		w.outer = c
		b.conns.Store(c.Number, w)
		defer b.conns.Delete(c.Number)
		c.Out = &sink{w: w}
		w.enter(true)
		defer w.enter(false)
		defer w.findDeadlines(c.In, c.Reply)
		next := next
		if w.limit != nil {
			next = w.limit.Wrap(next)
		}
		defer func() {
			if v := recover(); v != nil {
				w.panic, err = v, fmt.Errorf("%v: %w", v, stage.ErrPanic)
			}
		}()
		w.err = next.Serve(ctx, c)
		return w.err
	})
}

// findDeadlines makes the connection have the deadlines that the stage has left: a read or
// a write sets the nearest of them, and one that has passed ends it.
func (c *connection) findDeadlines(in io.Reader, reply io.Writer) {
	_, err := in.Read(nil)
	_, werr := reply.Write(nil)
	if !errors.Is(werr, stage.ErrReset) {
		err = errors.Join(err, werr)
	}
	c.late = err
}

// inside is what the stage calls next.
func (b *bench) inside(ctx context.Context, c *stage.Conn) error {
	v, _ := b.conns.Load(c.Number)
	w, ok := v.(*connection)
	if !ok || c.Frame == 0 && c != w.outer {
		return errors.New("the next handler was called with a connection that is not the stage's")
	}
	w.calls++
	return w.next(ctx, c)
}

func (c *connection) enter(inside bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside = inside
}

func (c *connection) closes(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside {
		c.closed = append(c.closed, what)
	}
}

func (c *connection) Close() error {
	c.closes("the connection")
	return c.Conn.Close()
}

func (c *connection) CloseWrite() error {
	c.closes("the connection's stream to the peer")
	return c.Conn.CloseWrite()
}

func (c *connection) SetDeadline(t time.Time) error {
	c.keep(&c.read, t)
	c.keep(&c.write, t)
	return c.Conn.SetDeadline(t)
}

func (c *connection) SetReadDeadline(t time.Time) error {
	c.keep(&c.read, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *connection) SetWriteDeadline(t time.Time) error {
	c.keep(&c.write, t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *connection) keep(deadline *time.Time, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside {
		*deadline = t
	}
}

// sink is where the payload goes.
type sink struct{ w *connection }

func (s *sink) Write(p []byte) (int, error) { return s.w.sink.Write(p) }

func (s *sink) Close() error {
	s.w.closes("the sink")
	return nil
}

// play has the next connection end so, and its peer be as cut and slow as cut says.
func (b *bench) play(e ending, cut func(net.Conn) net.Conn) *end {
	return b.start(e, cut, nil)()
}

// start is play for who wants to look in between. from is the address of the peer, if
// that matters.
func (b *bench) start(e ending, cut func(net.Conn) net.Conn, from net.Addr) func() *end {
	b.served++
	server, client := memnet.Pair()
	if from != nil {
		server, client = memnet.PairOf(server.LocalAddr(), from)
	}
	if e.deaf {
		client.SetReadBuffer(1)
	}
	conn := &connection{Conn: server, end: new(end), ending: e}
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(cancel) // not at the end of play: a goroutine that waits for it must still be seen

	send, _ := b.payload(size)
	var theirs net.Conn = client
	if cut != nil {
		theirs = cut(theirs)
	}
	peer := e.peer(b.Before, send)
	if !e.deaf {
		peer = then(peer, func(net.Conn) error {
			io.Copy(io.Discard, theirs)
			return nil
		})
	}
	peerEnd := peer.Start(theirs)
	served := make(chan struct{})
	number := uint64(b.served)
	go func() {
		defer close(served)
		stage.Serve(ctx, conn, number, b.handler)
	}()
	return func() *end {
		synctest.Wait()
		if e.cancel {
			cancel()
		}
		told := time.Now()
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case <-served:
		case <-wait.C:
			conn.end.hung = true
		}
		conn.took = time.Since(told)
		if conn.hung {
			cancel()
			server.Close()
		}
		client.Close()
		if conn.hung {
			wait.Reset(patience)
			select {
			case <-served:
			case <-wait.C: // and nothing will, so that the bubble panics
				b.broken("when %s: the connection does not end, even if it is closed", e.name)
			}
		}
		conn.peerErr = peerEnd()
		synctest.Wait()
		return conn.end
	}
}

// header is the first line of what runtime.Stack says of a goroutine in a bubble.
var header = regexp.MustCompile(`^goroutine (\d+) .*\[.*, synctest bubble (\d+)\]:`)

// goroutines are those of this bubble, but for who asks, by their numbers.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	all := make(map[string]string)
	bubble := ""
	for i, g := range strings.Split(string(buf[:n]), "\n\n") {
		m := header.FindStringSubmatch(g)
		switch {
		case i == 0 && m == nil:
			panic("stagetest: not in a bubble: " + g)
		case i == 0: // who asks
			bubble = m[2]
		case m != nil && m[2] == bubble:
			all[m[1]] = g
		}
	}
	return all
}

// host is a client's address, of so many, in a network that is for measurements (RFC 2544).
func host(i int) net.Addr {
	ip := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 49152))
}
