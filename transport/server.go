package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Handler serves a connection. The connection is the Handler's own, and it
// closes it. It returns soon after ctx is cancelled, which is what ctx is for.
// Many goroutines may call ServeConn at a time. number is the connection's, as
// [Numbers] gave it.
type Handler interface {
	ServeConn(ctx context.Context, conn net.Conn, number uint64)
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, conn net.Conn, number uint64)

// ServeConn calls f.
func (f HandlerFunc) ServeConn(ctx context.Context, conn net.Conn, number uint64) {
	f(ctx, conn, number)
}

// ErrUnfinished is what [Server.Serve] returns if handlers were still at work
// when the grace of a shutdown ran out.
var ErrUnfinished = errors.New("stopped before all connections had ended")

// Server accepts connections and has them served. Its fields must not change
// while it serves. The zero value but for Handler serves every connection at
// once on a goroutine of its own.
type Server struct {
	// Handler serves each connection.
	Handler Handler

	// Scheduler bounds how many are served at a time. Nil means no bound.
	Scheduler Scheduler

	// Numbers numbers the connections. Nil means a new [Counter].
	Numbers Numbers

	// Grace is how long a shutdown waits for handlers to return after it has
	// cancelled their context. 0 or less means for ever.
	Grace time.Duration

	// OnError, if not nil, is told of what goes wrong between connections, and
	// of a Handler's panic (a [*PanicError]). It is called by several
	// goroutines. When connections cannot be accepted for a while, as with no
	// descriptor left, it is called once a minute at most.
	OnError func(error)
}

// PanicError is a Handler's panic.
type PanicError struct {
	Number uint64 // of the connection
	Value  any    // what panic was called with
	Stack  []byte // the goroutine's stack then
}

// Error returns one line, without the stack.
func (e *PanicError) Error() string {
	line := fmt.Sprintf("connection %d: panic: %v", e.Number, e.Value)
	return strings.Join(strings.Fields(line), " ")
}

// Unwrap returns the panic's value if that is an error, and otherwise nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Serve accepts connections from ln and has each served on a goroutine, until ctx is cancelled
// or ln fails for good. It closes ln.
//
// When ctx is cancelled, it stops accepting, cancels the context of every
// handler, waits for them to return, and returns nil. If that takes longer than
// Grace it resets the connections that are left, so that no peer can take the
// end of the process for an orderly close, and returns [ErrUnfinished] without
// waiting any longer.
//
// No failure to accept one connection ends it. While the process or the system
// is out of descriptors or memory it waits, without spinning, until a
// connection has ended or some time has passed. If ln fails for good, Serve
// does as on cancellation and returns ln's error.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &loop{
		Server:  s,
		ln:      ln,
		sched:   s.Scheduler,
		numbers: s.Numbers,
		conns:   make(map[*tracked]struct{}),
		ended:   make(chan struct{}, 1),
		next:    make(chan *tracked),
		over:    make(chan struct{}),
	}
	if l.sched == nil {
		l.sched = NewPool(0)
	}
	if l.numbers == nil {
		l.numbers = new(Counter)
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := l.run(ctx)
	ln.Close()
	cancel()
	close(l.over)
	return errors.Join(err, l.drain())
}

// loop is one Serve under way.
type loop struct {
	*Server
	ln      net.Listener
	sched   Scheduler
	numbers Numbers

	complained time.Time // of a shortage, for the last time

	workers sync.WaitGroup
	next    chan *tracked // to one of them that rests
	resting atomic.Int64  // how many do
	over    chan struct{} // closed when there will be no more

	mu    sync.Mutex
	conns map[*tracked]struct{} // accepted and not yet done with
	ended chan struct{}         // holds a token when one of them has ended
}

// tracked is a connection from when it was accepted until its Handler has
// returned.
type tracked struct {
	net.Conn
	loop     *loop
	ctx      context.Context
	number   uint64
	returned bool // the Handler has
}

// run is the accept loop. It returns nil if ctx ended it.
func (l *loop) run(ctx context.Context) error {
	for {
		if err := l.sched.Acquire(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("no slot for another connection: %w", err)
		}
		conn, err := l.accept(ctx)
		if err != nil || conn == nil {
			l.sched.Release()
			return err
		}
		number, err := l.numbers.Next(ctx)
		if err != nil {
			l.sched.Release()
			reset(conn)
			if ctx.Err() == nil {
				l.report(fmt.Errorf("no number for the connection from %s: %w", conn.RemoteAddr(), err))
			}
			continue
		}
		l.dispatch(l.track(ctx, conn, number))
	}
}

// maxResting is how many goroutines wait for another connection when theirs has
// ended. The stack of one that has served is as large as it needs to be; that of
// a new one has to grow, which is a good part of what a short connection costs.
const maxResting = 32

// dispatch has t served, by a goroutine that rests or by a new one.
func (l *loop) dispatch(t *tracked) {
	select {
	case l.next <- t:
	default:
		l.workers.Add(1)
		go func() {
			defer l.workers.Done()
			for t := t; t != nil; t = l.rest() {
				t.serve()
			}
		}()
	}
}

// rest returns the next connection to be served, or nil if this goroutine is not
// needed any longer.
func (l *loop) rest() *tracked {
	if l.resting.Add(1) > maxResting {
		l.resting.Add(-1)
		return nil
	}
	defer l.resting.Add(-1)
	select {
	case t := <-l.next:
		return t
	case <-l.over:
		return nil
	}
}

// accept returns the next connection, nil if ctx is done first, or an error if
// there will be no more.
func (l *loop) accept(ctx context.Context) (net.Conn, error) {
	var backoff backoff
	for {
		conn, err := l.ln.Accept()
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		switch verdict(err) {
		case retryNow:
		case retryLater:
			if now := time.Now(); now.Sub(l.complained) >= time.Minute {
				l.complained = now
				l.report(fmt.Errorf("cannot accept connections for now: %w", err))
			}
			backoff.wait(ctx, l.ended)
		default:
			return nil, fmt.Errorf("cannot accept connections: %w", err)
		}
	}
}

func (t *tracked) serve() {
	defer t.end()
	t.loop.Handler.ServeConn(t.ctx, t.Conn, t.number)
	t.returned = true
}

func (t *tracked) end() {
	defer t.loop.sched.Release()
	defer t.loop.untrack(t)
	if t.returned {
		t.Close() // the Handler has; this is for one that forgot
		return
	}
	// A panic, or a runtime.Goexit.
	reset(t.Conn)
	if v := recover(); v != nil {
		t.loop.report(&PanicError{Number: t.number, Value: v, Stack: debug.Stack()})
	}
}

func (l *loop) report(err error) {
	if l.OnError != nil {
		l.OnError(err)
	}
}

func (l *loop) track(ctx context.Context, conn net.Conn, number uint64) *tracked {
	t := &tracked{Conn: conn, loop: l, ctx: ctx, number: number}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[t] = struct{}{}
	return t
}

func (l *loop) untrack(t *tracked) {
	l.mu.Lock()
	delete(l.conns, t)
	l.mu.Unlock()
	select {
	case l.ended <- struct{}{}:
	default:
	}
}

// drain waits for the handlers to return, and resets what is left when the
// grace runs out.
func (l *loop) drain() error {
	var graceOver <-chan time.Time
	if l.Grace > 0 {
		timer := time.NewTimer(l.Grace)
		defer timer.Stop()
		graceOver = timer.C
	}
	for l.open() > 0 {
		select {
		case <-l.ended:
		case <-graceOver:
			if n := l.resetAll(); n > 0 {
				return fmt.Errorf("%w: %d left", ErrUnfinished, n)
			}
		}
	}
	l.workers.Wait() // those that have nothing left to do
	return nil
}

// resetAll resets the connections that are left, and returns how many those are.
func (l *loop) resetAll() int {
	l.mu.Lock()
	left := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, t := range left {
		reset(t.Conn)
	}
	return len(left)
}

func (l *loop) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// reset closes conn such that its peer cannot take it for an orderly end, where
// it is TCP's, or a layer over TCP's. A layer (crypto/tls, say) is not asked to
// close before what it stands on is closed: it would say goodbye.
func reset(conn net.Conn) {
	under := conn
	for {
		layer, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under = layer.NetConn()
	}
	if tcp, ok := under.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(0)
	}
	under.Close()
	conn.Close()
}
