package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/internal/netutil"
)

// ErrUnfinished means that handlers were still running when the grace of [Server] ran out.
var ErrUnfinished = errors.New("stopped before all connections had ended")

// Server accepts connections and serves each on a goroutine. Only Handler is required. Do not
// change the fields during Serve.
type Server struct {
	// Handler serves a connection, as stage.ServeFunc does. It must be safe for concurrent
	// use.
	//
	// conn is the connection that the listener returned, and number comes from Numbers.
	// Handler closes conn, and returns when the connection has ended or soon after ctx is
	// cancelled. Its goroutines must end before it returns, since Serve then frees the
	// slot. A panic resets the connection, and OnError receives it. The order of calls
	// can differ from the order of acceptance.
	Handler func(ctx context.Context, conn net.Conn, number uint64)

	// Scheduler limits the connections served at a time. Nil means no limit.
	Scheduler Scheduler

	// Numbers numbers the connections. Nil means NewCounter(0).
	Numbers Numbers

	// Drain is how long a shutdown waits before it cancels the context of handlers. 0 or
	// less means not at all, or, with DrainNow, until that is closed.
	Drain time.Duration

	// DrainNow, if not nil, ends Drain when it is closed.
	DrainNow <-chan struct{}

	// OnDrain, if not nil, receives the number of connections left at the start of a drain,
	// every five seconds if it has changed, and, with done, at the end. Serve waits for
	// each call.
	OnDrain func(left int, done bool)

	// OnAlive, if not nil, receives the number of connections every AliveInterval until
	// Serve returns, unless the accept loop hangs: a call of Numbers or OnError, say, takes
	// AliveInterval or longer. Handlers do not matter.
	OnAlive func(open int)

	// AliveInterval is the time between calls of OnAlive. 0 or less means no calls.
	AliveInterval time.Duration

	// Grace is how long a shutdown waits for handlers after it has cancelled their context. 0
	// or less means for ever.
	Grace time.Duration

	// OnError, if not nil, receives errors that Serve does not return: a failed accept, at
	// most once a minute during a shortage, an error of Numbers, and the panic of a Handler
	// (wraps a [*PanicError]). If the listener fails and a drain follows, it also receives
	// that error. It must be safe for concurrent use.
	OnError func(error)
}

// PanicError is the panic of a Handler. Value is the argument of panic, which Unwrap returns
// if it is an error. Stack is the stack of the goroutine. Error returns one line.
type PanicError = netutil.PanicError

// Serve accepts and serves connections until ctx is cancelled or ln fails. It closes ln.
//
// When ctx is cancelled, Serve stops accepting, drains connections as Drain and DrainNow say,
// cancels the context of the handlers left, waits for them to return, and returns nil. If
// that wait takes longer than Grace, it resets the connections left, so that no client can
// take the end of the process for an orderly close, and returns [ErrUnfinished].
//
// A failure to accept one connection does not end Serve. While descriptors or memory are
// short, it waits, without spinning, until a connection has ended or some time has passed.
// If ln fails for good, Serve shuts down as above and returns ln's error.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &acceptLoop{
		Server:  s,
		ln:      ln,
		slots:   s.Scheduler,
		numbers: s.Numbers,
		conns:   make(map[*connection]struct{}),
		ended:   make(chan struct{}, 1),
		workers: newWorkers(),
		started: time.Now(),
	}
	if l.slots == nil {
		l.slots = NewPool(0)
	}
	if l.numbers == nil {
		l.numbers = NewCounter(0)
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	// Handlers have the values of ctx, and are cancelled after the drain.
	handling, interrupt := ctx, func(error) {}
	drains := s.Drain > 0 || s.DrainNow != nil
	if drains {
		handling, interrupt = context.WithCancelCause(context.WithoutCancel(ctx))
	}
	if s.OnAlive != nil && s.AliveInterval > 0 {
		defer l.reportAlive()()
	}
	err := l.acceptAll(ctx, handling)
	ln.Close()
	if drains {
		l.report(err) // which Serve returns only when the drain is over
		l.drain()
	}
	cancel()
	interrupt(context.Cause(ctx))
	return errors.Join(err, l.finish())
}

// acceptLoop is the state of a Serve.
type acceptLoop struct {
	*Server
	ln      net.Listener
	slots   Scheduler
	numbers Numbers
	workers *workers

	shortage  time.Time    // when a shortage was last reported
	started   time.Time    // busySince counts from here
	busySince atomic.Int64 // start of the current step of the accept loop; 0 while it waits

	mu    sync.Mutex
	conns map[*connection]struct{} // accepted and not ended
	ended chan struct{}            // holds a token after one has ended
}

// connection is a connection with its number, until its Handler returns.
type connection struct {
	net.Conn
	number uint64
}

// acceptAll is the accept loop. It returns nil if ctx ended it. Handlers get the context
// handling.
func (l *acceptLoop) acceptAll(ctx, handling context.Context) error {
	for {
		l.busySince.Store(0)
		err := l.slots.Acquire(ctx)
		l.busy()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("no slot for another connection: %w", err)
		}
		conn, err := l.accept(ctx)
		if err != nil || conn == nil {
			l.slots.Release()
			return err
		}
		number, err := l.numbers.Next(ctx)
		if err != nil {
			l.slots.Release()
			netutil.Reset(conn)
			if ctx.Err() == nil {
				l.report(fmt.Errorf("no number for the connection from %s: %w", conn.RemoteAddr(), err))
			}
			continue
		}
		c := &connection{conn, number}
		l.add(c)
		l.workers.run(func() { l.serve(handling, c) })
	}
}

// accept returns the next connection, nil if ctx is done, or a final error.
func (l *acceptLoop) accept(ctx context.Context) (net.Conn, error) {
	var backoff backoff
	for {
		l.busySince.Store(0)
		conn, err := l.ln.Accept()
		l.busy()
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		switch reactionTo(err) {
		case retryNow:
		case retryLater:
			if now := time.Now(); now.Sub(l.shortage) >= time.Minute {
				l.shortage = now
				l.report(fmt.Errorf("cannot accept connections for now: %w", err))
			}
			l.busySince.Store(0)
			backoff.wait(ctx, l.ended)
		default:
			return nil, fmt.Errorf("cannot accept connections: %w", err)
		}
	}
}

// serve has the Handler serve c, and releases its slot.
func (l *acceptLoop) serve(ctx context.Context, c *connection) {
	returned := false
	defer func() {
		defer l.slots.Release()
		defer l.remove(c)
		if returned {
			c.Close() // for a Handler that forgot
			return
		}
		// A panic, or a runtime.Goexit.
		netutil.Reset(c.Conn)
		if v := recover(); v != nil {
			l.report(fmt.Errorf("connection %d: panic: %w", c.number, &PanicError{Value: v, Stack: debug.Stack()}))
		}
	}()
	l.Handler(ctx, c.Conn, c.number)
	returned = true
}

// report calls OnError, unless err is nil.
func (l *acceptLoop) report(err error) {
	if err != nil && l.OnError != nil {
		l.OnError(err)
	}
}

func (l *acceptLoop) add(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
}

func (l *acceptLoop) remove(c *connection) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	select {
	case l.ended <- struct{}{}:
	default:
	}
}

// open returns the number of connections.
func (l *acceptLoop) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// drainInterval is the time between reports of a drain.
const drainInterval = 5 * time.Second

// drain waits until no connection is left, or as long as Drain and DrainNow say.
func (l *acceptLoop) drain() {
	reported := -1
	report := func(done bool) {
		if left := l.open(); l.OnDrain != nil && (done || left != reported) {
			reported = left
			l.OnDrain(left, done)
		}
	}
	report(false)
	l.await(l.Drain, l.DrainNow, func() { report(false) })
	report(true)
}

// await waits until no connection is left. It returns false if limit passes first (0 or
// less: never) or stop is closed. It calls tick every drainInterval.
func (l *acceptLoop) await(limit time.Duration, stop <-chan struct{}, tick func()) bool {
	var over <-chan time.Time
	if limit > 0 {
		over = time.After(limit)
	}
	ticks := time.Tick(drainInterval)
	for l.open() > 0 {
		select {
		case <-l.ended:
		case <-ticks:
			tick()
		case <-over:
			return false
		case <-stop:
			return false
		}
	}
	return true
}

// finish waits for the handlers, and resets the connections left after the grace.
func (l *acceptLoop) finish() error {
	l.workers.stop()
	if !l.await(l.Grace, nil, func() {}) {
		if n := l.resetAll(); n > 0 {
			return fmt.Errorf("%w: %d left", ErrUnfinished, n)
		}
	}
	l.workers.wait()
	return nil
}

// resetAll resets the connections left and returns their number.
func (l *acceptLoop) resetAll() int {
	l.mu.Lock()
	left := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range left {
		netutil.Reset(c.Conn)
	}
	return len(left)
}
