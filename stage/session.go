package stage

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// Serve passes nc through h, closes it, and returns what h returned: nil, or
// why the connection ended, as an error for errors.Is. The connection becomes
// Serve's own. number is its [Conn.Number].
//
// When ctx is cancelled, reads and writes on the connection end with
// [ErrShutdown]. What h does otherwise is not interrupted: a sink that is
// committing finishes.
//
// The close tells the peer the truth. It is orderly (FIN) if h returned nil,
// and also after [ErrIdle]: a peer that has not ended its own stream cannot
// take it for success. In every other case the peer could, so the connection is
// reset (RST): also if h panics, from which Serve does not recover (see
// [Recover]), and if the process dies, however it does.
func Serve(ctx context.Context, nc net.Conn, number uint64, h Handler) (err error) {
	NewSession(ctx, nc, number, h, func(end error) { err = end }).Run(nil)
	return err
}

// Session is one [Serve] that need not keep a goroutine, and its stack, while the
// peer is silent: whoever runs it can be sent away meanwhile. That is possible
// while a [Handshake] waits for a word, and while [Receive] waits, if all stages of
// the chain are Brackets and none has put a Reader of its own before c.In (a [Gate]
// does no harm). In all other places it waits as Serve does.
//
// A server for which that memory counts waits for many such connections with one
// goroutine, as the accept loop of package transport does.
type Session struct {
	conn Conn
	ctx  context.Context
	list []step
	at   int // of list
	next Handler
	done func(error)
	left bool // and not over
}

// NewSession begins what Serve does. nc becomes the session's own, which may go on with
// another descriptor of it: once [Session.Run] has been called with a wake, who wants to end
// the connection by force does so not by a close of nc, but by [Session.Reset], and who waits
// for it asks [Session.SyscallConn]. Run has to be called. When the connection has ended and is closed, done, unless it is
// nil, is called once with what Serve would have returned.
func NewSession(ctx context.Context, nc net.Conn, number uint64, h Handler, done func(err error)) *Session {
	s := &Session{ctx: ctx, next: h, done: done}
	if b, ok := h.(*brackets); ok {
		s.list, s.next = b.list, b.next
	}
	s.conn.attach(ctx, nc, number)
	return s
}

// Sessions returns what makes each connection of a server a Session of h. It is for who
// runs sessions, such as package transport:
//
//	srv := transport.Server{Handler: transport.SessionHandler(stage.Sessions(h))}
//
// How connections end is told by stages of h, such as [Log], or by the done of
// [NewSession].
func Sessions(h Handler) func(ctx context.Context, nc net.Conn, number uint64) *Session {
	return func(ctx context.Context, nc net.Conn, number uint64) *Session {
		return NewSession(ctx, nc, number, h, nil)
	}
}

// Run serves the connection. If wake is nil it returns when the connection has
// ended, and waits is false.
//
// Otherwise it may also return with waits true when the peer has been silent for
// a few milliseconds. It is to be called again then as soon as there is
// something to be read from the connection, or wake has been called, or until (the
// nearest [Deadline]; zero means never) has come. To call it too early does no harm.
// Run is called by one goroutine at a time. wake is called by any, also before Run
// has returned, more than once, and when it no longer matters; it must not wait, and
// call nothing of the session.
//
// Run passes a panic of a stage on, when the connection is closed; the session is
// over then, and done is not called.
func (s *Session) Run(wake func()) (until time.Time, waits bool) {
	c := &s.conn
	s.left = false
	defer s.unwind()
	if wake != nil {
		c.movable = c.tcp
	}
	c.resume(wake != nil)
	for {
		err := s.turn()
		c.leaves = nowhere
		if err != errAwait {
			err = c.leave(0, err)
			c.detach(err == nil || errors.Is(err, ErrIdle) && !errors.Is(err, ErrStorage) && !errors.Is(err, ErrConflict))
			if s.done != nil {
				s.done(err)
			}
			return time.Time{}, false
		}
		if until, s.left = c.await(wake); s.left {
			return until, true
		}
	}
}

// Reset closes the connection at once, with a reset where it is TCP's, whatever its stages
// do; Run returns when they have noticed. It is for who runs the session and has no more
// time to give: who has, cancels its context. It may be called by any goroutine, at any
// time, and waits for nothing.
func (s *Session) Reset() {
	c := &s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocking != nil {
		c.blocking.end()
		return
	}
	under := innermost(c.raw)
	setLinger(under, 0)
	under.Close()
}

// SyscallConn is that of the connection, by the descriptor which it has as long as Run is not
// called: for who waits for it in the system. Where the connection is not the system's it is
// an errors.ErrUnsupported.
func (s *Session) SyscallConn() (syscall.RawConn, error) {
	return (*socket)(&s.conn).SyscallConn()
}

// turn goes on with the chain, up to its end or to where it is to be left.
func (s *Session) turn() error {
	c := &s.conn
	for ; s.at < len(s.list); s.at++ {
		c.mayLeave(s.list[s.at].leaves)
		if done, err := c.enter(s.ctx, s.list[s.at].before); done {
			return err
		}
	}
	if _, ok := s.next.(receive); ok {
		c.mayLeave(anywhere)
	} else {
		c.mayLeave(nowhere)
	}
	return s.next.Serve(s.ctx, c)
}

// unwind ends the session if a panic passes by.
func (s *Session) unwind() {
	if !s.left {
		defer s.conn.detach(false)
		s.conn.leaves = nowhere
		s.conn.unwind(0)
	}
}

// attach takes nc over, until detach.
func (c *Conn) attach(ctx context.Context, nc net.Conn, number uint64) {
	setLinger(innermost(nc), 0)
	c.init(nc, number)
	c.attached = true
	c.link(ctx)
}

// detach closes the connection, in an orderly way or not, if that has not been
// done.
func (c *Conn) detach(orderly bool) {
	if !c.attached {
		return
	}
	c.attached = false
	c.unlink()
	raw := c.unblock()
	under := innermost(raw)
	if orderly {
		setLinger(under, -1)
		c.release()
	} else {
		under.Close() // first, or a layer over it would say goodbye
	}
	c.Net.Close()
	if raw != c.first {
		raw.Close()
	}
}

// release undoes an interruption: what is inside has ended well in spite of it, and a
// layer may have to tell the peer so.
func (c *Conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = nil
}

// leaves is where in a step a session can be left while it reads: the step is
// called anew when it goes on.
type leaves uint8

const (
	nowhere     leaves = iota
	beforeBytes        // as long as none has been read in it
	anywhere
)

// errAwait ends a read in a step that is to be left. Only a Session ever sees it.
var errAwait = errors.New("stage: awaiting the peer")

// waiting is for how long a session waits in place.
type waiting struct {
	leaves leaves
	came   bool      // something has, in this step and since until was set
	ends   bool      // it is not always for ever
	until  time.Time // zero: for ever. Set under Conn.mu, by who serves the connection
}

const (
	// shortWait is how long is waited for a peer whose turn it is. Most have
	// answered by then, and to leave and come back costs more than to wait; but
	// who waits holds a stack, and a crowd comes quickly.
	shortWait = 20 * time.Millisecond

	// longWait is how long is waited for one that has been sending.
	longWait = 200 * time.Millisecond
)

// heard notes that something has come.
func (w *waiting) heard() {
	w.came = true
	if w.leaves == beforeBytes {
		w.leaves = nowhere
	}
}

// resume has reads in places that may be left end by errAwait after some time, or
// never, and forgets who was to be woken.
func (c *Conn) resume(waitEnds bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake = nil
	c.ends, c.until = waitEnds && c.known(), time.Time{}
	if c.ends {
		c.wait(shortWait)
	} else {
		c.arm() // for good, where it has ended before
	}
}

// wait has the wait end so much later. c.mu is held.
func (c *Conn) wait(d time.Duration) error {
	c.came, c.until = false, time.Now().Add(d)
	return c.arm()
}

// mayLeave says where in the next step the session can be left, if it can: where
// something else stands between c.In and the connection, that may hold bytes back,
// and is not to see errAwait.
func (c *Conn) mayLeave(where leaves) {
	c.leaves = nowhere
	if where == nowhere || !c.ends || !c.plain() {
		return
	}
	c.leaves, c.came = where, false
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		c.wait(shortWait)
	}
}

// known reports whether a read of the connection is one of the system's, and no more. c.mu is
// held.
func (c *Conn) known() bool {
	_, unix := c.raw.(*net.UnixConn)
	return unix || c.tcp
}

// plain reports whether what c.In reads is the connection itself, which is known.
func (c *Conn) plain() bool {
	r, ok := c.In.(*Reader)
	return ok && r.r == io.Reader((*socket)(c)) && r.gates[0] == Gate((*inGate)(c))
}

// late says what a read deadline of the connection that has passed means: err, if
// it was one of its Deadlines; errAwait; or nothing yet.
func (c *Conn) late(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.until.IsZero() || now.Before(c.until) {
		return err
	}
	if t := c.nearest(); !t.IsZero() && !now.Before(t) {
		return err
	}
	c.until = time.Time{}
	if c.came {
		return c.wait(longWait)
	}
	if c.leaves != nowhere {
		return errAwait
	}
	return c.arm()
}

// await leaves the session, unless it has been interrupted.
func (c *Conn) await(wake func()) (until time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped != nil {
		return time.Time{}, false
	}
	c.wake = wake
	return c.nearest(), true
}
