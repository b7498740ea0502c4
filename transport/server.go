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
// closes it: it is what the listener has returned, with nothing around it. number is
// the connection's, as [Numbers] gave it.
//
// It returns when the connection has ended, and soon after ctx is cancelled, which
// is what ctx is for beside the values of the one given to [Server.Serve]. A Server
// waits for it, and frees its slot when it has returned, so goroutines that
// it has begun have ended by then. What went wrong is its own matter, but for a
// panic: that has the connection reset, and OnError told.
//
// Many goroutines may call ServeConn at a time. Connections that were accepted one
// after the other are not always handled in that order.
type Handler interface {
	ServeConn(ctx context.Context, conn net.Conn, number uint64)
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, conn net.Conn, number uint64)

// ServeConn calls f.
func (f HandlerFunc) ServeConn(ctx context.Context, conn net.Conn, number uint64) {
	f(ctx, conn, number)
}

// Session is a connection that is served, and that can be left while it waits for
// its peer, so that it takes no goroutine meanwhile: 10,000 silent connections are
// 10,000 stacks otherwise.
type Session interface {
	// Run serves the connection, which it closes, and returns false when it has
	// ended. As long as it has not, Run may return true. It is called again as soon
	// as there is something to be read from the connection, or the peer has ended its
	// stream, or wake has been called, even before Run had returned, or until has come
	// (zero: never); and now and then too early, which it must be able to bear. It is
	// not called by more than one goroutine at a time, nor always by the same one.
	//
	// What Run has read and keeps does not count as something to be read. Nor does
	// the end of ctx have it called, nor a close of the connection by anybody but the
	// Server: who cancels or closes calls wake.
	//
	// A Session that is a syscall.Conn may go on with another descriptor of the
	// connection: it is asked for that each time it is left.
	//
	// A panic of Run ends the Session, and has the connection reset and OnError told.
	//
	// wake never waits. It may be called at any time and by any goroutine, also when
	// it no longer matters. It is nil where there is no way to wait but in place, which
	// may turn out later, and Run must not return true then.
	Run(wake func()) (until time.Time, waits bool)
}

// Resetter is a [Session] that has its connection reset by itself, at the end of
// [Server.Grace]: one whose connection may be more than what it was made of, so that to close
// that does not do. Any goroutine may call Reset, also while Run is under way and when it is
// over. It waits for nothing.
type Resetter interface{ Reset() }

// SessionHandler returns a Handler of connections that can be left. newSession
// makes a connection a Session, of whatever type; the connection is the Session's own. ctx
// and number are those of [Handler]: a Session that has been left has to wake itself when
// ctx is cancelled.
//
// Only a [Server] whose Handler it is leaves connections, those that are a
// syscall.Conn, and only where it knows how to (Linux). ServeConn of the Handler, as a
// Handler around it calls it, has them wait in place.
func SessionHandler[S Session](newSession func(ctx context.Context, conn net.Conn, number uint64) S) Handler {
	return sessions(func(ctx context.Context, conn net.Conn, number uint64) Session {
		return newSession(ctx, conn, number)
	})
}

type sessions func(ctx context.Context, conn net.Conn, number uint64) Session

func (s sessions) ServeConn(ctx context.Context, conn net.Conn, number uint64) {
	s(ctx, conn, number).Run(nil)
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

	// Drain is how long a shutdown lets handlers go on as if nothing had happened,
	// before it cancels their context. 0 or less means not at all, or, if there is
	// a Hurry, until that is closed.
	Drain time.Duration

	// Hurry, if not nil, ends Drain when it is closed.
	Hurry <-chan struct{}

	// OnDrain, if not nil, is told how many connections are left while they are
	// drained: when that begins, every five seconds if the number is another one
	// by then, and, with done, when it is over, because none is left or there is no more
	// time for those. Serve waits for it to return.
	OnDrain func(left int, done bool)

	// OnPulse, if not nil, is called every Pulse (0 or less: never) for as long as Serve has
	// not returned, with how many connections there are, if the Server is alive: its accept
	// loop, and that in which Sessions wait, either wait or have got on since the last
	// time, and nobody keeps their locks. While they do not, as when one of Numbers, OnError and the
	// like does not return, it is not called. It says nothing of what handlers do.
	OnPulse func(open int)
	Pulse   time.Duration

	// Grace is how long a shutdown waits for handlers to return after it has
	// cancelled their context. 0 or less means for ever.
	Grace time.Duration

	// OnError, if not nil, is told of what goes wrong between connections, and
	// of a Handler's or a Session's panic (a [*PanicError]). It is called by several
	// goroutines. When connections cannot be accepted for a while, as with no
	// descriptor left, it is called once a minute at most. What Serve will return
	// it is told of only if a Drain comes first.
	OnError func(error)
}

// PanicError is a Handler's or a Session's panic.
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
// When ctx is cancelled, it stops accepting, lets the handlers go on for as long as
// Drain and Hurry say, cancels the context of every handler that is left, waits for them to
// return (for a [Session]: to end), and returns nil. If
// that last wait takes longer than Grace it resets the connections that remain, so that no peer
// can take the end of the process for an orderly close, and returns [ErrUnfinished]
// without waiting any longer. Sessions that were left are run once more, to find
// their connection closed.
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
	l.sessions, _ = s.Handler.(sessions)
	if l.sessions != nil {
		l.lot = newLot(l.dispatch)
		defer l.lot.close()
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	// They have the values of ctx, and its end once they have had their time.
	handling, interrupt := ctx, func(error) {}
	drains := s.Drain > 0 || s.Hurry != nil
	if drains {
		handling, interrupt = context.WithCancelCause(context.WithoutCancel(ctx))
	}
	if s.OnPulse != nil && s.Pulse > 0 {
		defer l.pulse()()
	}
	err := l.run(ctx, handling)
	ln.Close()
	if drains {
		if err != nil {
			l.report(err) // which would otherwise be known when the drain is over
		}
		l.drain()
	}
	cancel()
	interrupt(context.Cause(ctx))
	close(l.over)
	return errors.Join(err, l.end())
}

// loop is one Serve under way.
type loop struct {
	*Server
	ln      net.Listener
	sched   Scheduler
	numbers Numbers

	complained time.Time // of a shortage, for the last time
	turns      turns     // of the accept loop

	workers sync.WaitGroup
	next    chan *tracked // to one of them that rests
	resting atomic.Int64  // how many do
	over    chan struct{} // closed when there will be no more

	sessions sessions // the Handler, if it is that, or nil
	lot      *lot     // where they wait; nil if they cannot be left

	mu    sync.Mutex
	conns map[*tracked]struct{} // accepted and not yet done with
	ended chan struct{}         // holds a token when one of them has ended
}

// tracked is a connection from when it was accepted until its Handler has
// returned, or its Session has ended.
type tracked struct {
	net.Conn
	loop     *loop
	ctx      context.Context
	number   uint64
	returned bool // the Handler has

	session Session     // once it has begun, if it is one
	begun   atomic.Bool // it has
	parking
}

// run is the accept loop, which has connections handled with a context of their own.
// It returns nil if ctx ended it.
func (l *loop) run(ctx, handling context.Context) error {
	l.turns.work()
	defer l.turns.wait()
	for {
		l.turns.wait()
		err := l.sched.Acquire(ctx)
		l.turns.work()
		if err != nil {
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
		l.dispatch(l.track(handling, conn, number))
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
		l.turns.wait()
		conn, err := l.ln.Accept()
		l.turns.work()
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
			l.turns.wait()
			backoff.wait(ctx, l.ended)
			l.turns.work()
		default:
			return nil, fmt.Errorf("cannot accept connections: %w", err)
		}
	}
}

func (t *tracked) serve() {
	left := false
	defer t.end(&left)
	left = t.run()
}

// run has the Handler serve the connection. It reports true if t is left for now,
// and belongs to whoever resumes it.
func (t *tracked) run() (left bool) {
	l := t.loop
	if l.lot == nil {
		l.Handler.ServeConn(t.ctx, t.Conn, t.number)
		t.returned = true
		return false
	}
	if t.session == nil {
		t.session = l.sessions(t.ctx, t.Conn, t.number)
		t.begun.Store(true)
	}
	for {
		until, waits := t.session.Run(l.lot.waker(t))
		if !waits {
			t.returned = true
			return false
		}
		if l.lot.park(t, until) {
			return true
		}
	}
}

// end is done with a connection, unless it is left for now.
func (t *tracked) end(left *bool) {
	if *left {
		return
	}
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

// drainEvery is how often a drain tells of its progress.
const drainEvery = 5 * time.Second

// drain lets handlers go on until none is left, or as long as Drain and Hurry say.
func (l *loop) drain() {
	if l.OnDrain == nil {
		l.await(l.Drain, l.Hurry, nil)
		return
	}
	told := l.open()
	l.OnDrain(told, false)
	l.await(l.Drain, l.Hurry, func() {
		if left := l.open(); left != told {
			told = left
			l.OnDrain(left, false)
		}
	})
	l.OnDrain(l.open(), true)
}

// await waits until no connection is left, and reports whether that was so before
// the time was over (0 or less: there is as much as it takes) or hurry was closed.
// Meanwhile it calls tell, if that is not nil, now and then.
func (l *loop) await(limit time.Duration, hurry <-chan struct{}, tell func()) bool {
	var over, tick <-chan time.Time
	if tell != nil {
		ticker := time.NewTicker(drainEvery)
		defer ticker.Stop()
		tick = ticker.C
	}
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	for l.open() > 0 {
		select {
		case <-l.ended:
		case <-tick:
			tell()
		case <-over:
			return false
		case <-hurry:
			return false
		}
	}
	return true
}

// end waits for the handlers to return, and resets what is left when the grace
// runs out.
func (l *loop) end() error {
	if !l.await(l.Grace, nil, nil) {
		if n := l.resetAll(); n > 0 {
			return fmt.Errorf("%w: %d left", ErrUnfinished, n)
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
		if t.begun.Load() {
			if r, ok := t.session.(Resetter); ok {
				r.Reset()
			}
		}
		reset(t.Conn)
		if l.lot != nil {
			l.lot.unpark(t) // a Session that has left it has to learn of that
		}
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
