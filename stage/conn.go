package stage

import (
	"errors"
	"hash"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is one connection on its way through a chain. A stage may replace In,
// Reply and Out by what it puts in front of them, before it calls the next
// handler; a handler reads from In and writes to Out (payload, to the sink) and
// Reply (to the peer).
//
// A Conn is for the one goroutine that serves it. Its deadlines and Counter's
// count may be used by any.
type Conn struct {
	// Net is the connection. Stages need it for its addresses; they do not read,
	// write or close it, and set its read deadline by a [Deadline] of their own
	// only. A [Session] may have gone on with another descriptor of the same
	// connection, so that they can do nothing else with it either.
	//
	// A stage that knows better addresses, or that has the peer speak through
	// another protocol, may replace it by a layer, before it calls the next handler:
	// a net.Conn with a method NetConn that returns the one before. Its Close has the
	// last word, if the connection ends in an orderly way, and closes what it stands
	// on; in every other case that has been closed before, so that nothing can be said
	// any longer. Everything else goes by In and Reply, and the deadlines: whoever has
	// a layer change the bytes replaces those two as well.
	Net net.Conn

	// Number tells this connection from the others of its server: 1 for the
	// first that was accepted, in order of acceptance.
	Number uint64

	// Frame tells the frames of a connection from each other, inside of [Frames]: 1
	// for the first. It is 0 for a connection as a whole.
	Frame uint64

	// In is what comes from the peer. A failure of the connection is an
	// [ErrReset], or an [ErrShutdown] if the context was cancelled; a read
	// deadline that passes is an os.ErrDeadlineExceeded, for the stage that set
	// it to explain.
	In io.Reader

	// Reply is what goes to the peer. Its errors are as those of In.
	Reply io.Writer

	// Out is where the payload goes: io.Discard until a stage sets a sink.
	Out io.Writer

	// Counter counts the bytes that have reached Out, once [Count] or a stage
	// that needs the number has put it there; nil until then.
	Counter *Counter

	// Hash has the digest of the bytes that have reached Out, by c.Hash.Sum(nil), once
	// the stage [Hash] has put it there; nil until then.
	Hash hash.Hash

	// Marked is whether [Save] has put its Mark in the place of this connection's payload.
	// It is final when Save has returned, so for what stages further out do after that. It
	// stays false if the payload is stored, if Save was never entered or has no Mark, and
	// if not even the Mark could be stored: what is to be seen under the name, if there is
	// anything, is then not this connection's.
	Marked bool

	after     []func(error) error // see brackets
	linked    *cancellation       // nil if the context is never cancelled
	handshake *timeout            // of the Handshake that is under way, or nil

	observation *observation // nil if nobody observes it
	whole       *Conn        // of which this is a frame, or nil
	waiting

	first    net.Conn // what Net was at first
	tcp      bool     // it is a TCP connection of the system's
	movable  bool     // to another descriptor, since who runs its Session ends it by Reset
	attached bool     // until detach

	mu        sync.Mutex
	writers   int32       // who keep raw from being closed for another
	raw       net.Conn    // first, or its successor: all I/O and all deadlines are its
	blocking  *blocking   // in the place of raw, which is closed; or nil
	stopped   error       // why I/O was interrupted, or nil
	deadlines []*Deadline // all that are set, for reads
	writing   []*Deadline // and for writes
	limits    gates       // of the time that writes take; see replyGate
	deadline  *Deadline   // that of SetWriteDeadline; nil before it is called
	armed     time.Time   // the read deadline of raw
	wake      func()      // of the session that was left, or nil

	clock atomic.Pointer[readClock] // nil before somebody wants to know

	// What In and Reply are at first, and room for what most chains need: one
	// object where there would be many.
	in    Reader
	reply Writer
	gate  [2]Gate

	limitRoom [1]Gate
	room      [4]func(error) error
}

// NewConn returns nc, ready to be passed to a chain. It does not take nc over:
// the caller closes it. Most servers call [Serve] instead, which also closes
// the connection as it ought to be, and ends it when its context does.
func NewConn(nc net.Conn, number uint64) *Conn {
	c := new(Conn)
	c.init(nc, number)
	return c
}

func (c *Conn) init(nc net.Conn, number uint64) {
	c.Net, c.first, c.raw, c.Number, c.Out = nc, nc, nc, number, io.Discard
	_, c.tcp = nc.(*net.TCPConn)
	c.gate = [...]Gate{(*inGate)(c), (*replyGate)(c)}
	s := (*socket)(c)
	c.in, c.reply = Reader{s, c.gate[:1:1]}, Writer{s, c.gate[1:]}
	c.In, c.Reply = &c.in, &c.reply
	c.after = c.room[:0]
}

// socket is the connection itself, as Readers and Writers have it: what is raw at the time.
type socket Conn

func (s *socket) Read(p []byte) (int, error) {
	return (*Conn)(s).unblock().Read(p)
}

// Write may be called by another goroutine than that which reads.
func (s *socket) Write(p []byte) (int, error) {
	c := (*Conn)(s)
	raw := c.beginWrite()
	defer c.endWrite()
	return raw.Write(p)
}

// SyscallConn is that of the connection, where it has one.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	raw, _ := (*Conn)(s).now()
	if sc, ok := raw.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// now returns what raw is, and in its place if it is not nil.
func (c *Conn) now() (net.Conn, *blocking) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw, c.blocking
}

// unblock has the runtime's poller wait for the connection, if it does not, and returns what
// raw is then.
func (c *Conn) unblock() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejoin()
	return c.raw
}

// beginWrite returns what raw is, and stays until endWrite.
func (c *Conn) beginWrite() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers++
	c.rejoin()
	return c.raw
}

func (c *Conn) endWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers--
}

// SetSink has the payload go to w: it becomes Out, behind the gates and the HashWriters that
// stages further out have put before the sink that there was: so they count, limit and
// observe what reaches w. A stage that sets a sink calls it before the next handler.
func (c *Conn) SetSink(w io.Writer) {
	c.Out = inPlace(c.Out, w)
}

// inPlace is w behind what out, which had another sink, has before that.
func inPlace(out, w io.Writer) io.Writer {
	switch o := out.(type) {
	case *Writer:
		w = inPlace(o.w, w)
		for _, g := range o.gates {
			w = NewWriter(w, g)
		}
	case *HashWriter:
		w = NewHashWriter(inPlace(o.w, w), o.h)
	}
	return w
}

// sinkOf is what out has at its end.
func sinkOf(out io.Writer) io.Writer {
	switch o := out.(type) {
	case *Writer:
		return sinkOf(o.w)
	case *HashWriter:
		return sinkOf(o.w)
	}
	return out
}

// entire is the connection of which c may be a frame. It alone has deadlines.
func (c *Conn) entire() *Conn {
	for c.whole != nil {
		c = c.whole
	}
	return c
}

// Deadline is a time at which reads of a Conn's In that wait end with an
// os.ErrDeadlineExceeded, and another at which writes to its Reply do. Each stage
// that has to do with time has one of its own, by [Conn.NewDeadline], and they do
// not disturb each other: the nearest is the connection's. A stage that sees an
// os.ErrDeadlineExceeded before its own time passes it on. It is safe for
// concurrent use.
type Deadline struct {
	c     *Conn
	at    time.Time // zero if it is not among c.deadlines
	write time.Time // zero if it is not among c.writing
}

// NewDeadline returns a deadline of c that is not set.
func (c *Conn) NewDeadline() *Deadline { return &Deadline{c: c} }

// SetReadDeadline sets the deadline; the zero time means none. Once the context
// of the connection is cancelled it has no effect, since all I/O has ended then:
// no stage can miss the end by moving its deadline at the wrong moment.
func (d *Deadline) SetReadDeadline(t time.Time) error {
	c := d.c.entire()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines = d.among(c.deadlines, d.at, t)
	d.at = t
	return c.arm()
}

// SetWriteDeadline sets that of writes; the zero time means none. It, too, has no
// effect once the context of the connection is cancelled.
func (d *Deadline) SetWriteDeadline(t time.Time) error {
	c := d.c.entire()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = d.among(c.writing, d.write, t)
	d.write = t
	if c.stopped != nil {
		return nil
	}
	return unlessClosed(c.raw.SetWriteDeadline(c.nearestWrite()))
}

// nearestWrite is the nearest of the deadlines of writes, or zero. c.mu is held.
func (c *Conn) nearestWrite() (t time.Time) {
	for _, d := range c.writing {
		if t.IsZero() || d.write.Before(t) {
			t = d.write
		}
	}
	return t
}

// among is list with d in it if the time is not zero, after it was before.
func (d *Deadline) among(list []*Deadline, before, t time.Time) []*Deadline {
	switch {
	case before.IsZero() == t.IsZero():
		return list
	case t.IsZero():
		return slices.DeleteFunc(list, func(o *Deadline) bool { return o == d })
	default:
		return append(list, d)
	}
}

// arm sets the connection's deadline to the nearest. c.mu is held.
func (c *Conn) arm() error {
	if c.stopped != nil {
		return nil
	}
	t := c.nearest()
	if c.wake != nil {
		c.wake() // the time to which the session was left has changed
	}
	if p := c.until; !p.IsZero() && (t.IsZero() || p.Before(t)) {
		t = p
	}
	if t.Equal(c.armed) {
		return nil
	}
	c.armed = t
	return unlessClosed(c.raw.SetReadDeadline(t))
}

// nearest is the nearest of the deadlines, or zero. c.mu is held.
func (c *Conn) nearest() (t time.Time) {
	for _, d := range c.deadlines {
		if t.IsZero() || d.at.Before(t) {
			t = d.at
		}
	}
	return t
}

// SetWriteDeadline sets the time at which writes to Reply that wait end with an
// os.ErrDeadlineExceeded; the zero time means never. It is that of a [Deadline] which
// all who call this share. It is safe for concurrent use.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c = c.entire()
	c.mu.Lock()
	if c.deadline == nil {
		c.deadline = &Deadline{c: c}
	}
	d := c.deadline
	c.mu.Unlock()
	return d.SetWriteDeadline(t)
}

// limitWrites has g be asked about writes to the connection itself, whatever layers the
// stages inside put over it, until unlimitWrites: what a layer writes on its own counts,
// and a write of one that has been given up is never tried again.
func (c *Conn) limitWrites(g Gate) {
	c = c.entire()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.limits) == 0 {
		c.limitRoom[0] = g
		c.limits = c.limitRoom[:1:1]
		return
	}
	c.limits = c.limits.and(g) // a copy: a write may be under way
}

func (c *Conn) unlimitWrites(g Gate) {
	c = c.entire()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.limits) == 1 && c.limits[0] == g {
		c.limits = nil
		return
	}
	c.limits = slices.DeleteFunc(slices.Clone(c.limits), func(o Gate) bool { return o == g })
}

func (c *Conn) writeLimits() gates {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limits
}

// unlessClosed is err from setting a deadline, but nil if the connection is
// closed: the next read or write says so, and In and Reply what it means.
func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// interrupt ends all I/O on c, now and later, with err.
func (c *Conn) interrupt(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped == nil {
		c.stopped = err
	}
	c.raw.SetDeadline(time.Unix(1, 0))
	if c.wake != nil {
		c.wake()
	}
}

func (c *Conn) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// inGate and replyGate stand nearest to the connection and say what its errors
// mean.
type (
	inGate    Conn
	replyGate Conn
)

// Allow is asked last: if those before it have waited, that was not the peer's time.
func (g *inGate) Allow(max int) (int, error) {
	c := (*Conn)(g)
	if clock := c.clock.Load(); clock != nil {
		clock.start()
	}
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return max, c.wait(shortWait)
	}
	return max, nil
}

func (g *inGate) Passed(n int, err error) error {
	c := (*Conn)(g)
	if clock := c.clock.Load(); clock != nil {
		clock.waitedFor()
	}
	if n > 0 {
		c.heard()
	}
	if err = c.explain(err); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = c.late(err)
	}
	return err
}

// Allow asks the limits.
func (g *replyGate) Allow(max int) (int, error) { return (*Conn)(g).writeLimits().allow(max) }

func (g *replyGate) Passed(n int, err error) error {
	c := (*Conn)(g)
	return c.writeLimits().passed(n, c.explain(err))
}

// readClock tells how long reads of a connection have taken.
type readClock struct {
	mu     sync.Mutex
	asked  time.Time // when the read that is under way began, or zero
	waited time.Duration
}

// readClock has c have one from now on.
func (c *Conn) readClock() *readClock {
	c = c.entire()
	c.clock.CompareAndSwap(nil, new(readClock))
	return c.clock.Load()
}

func (k *readClock) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = time.Now()
}

// waitedFor is asked when no read is under way any longer.
func (k *readClock) waitedFor() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.asked.IsZero() {
		k.waited += time.Since(k.asked)
		k.asked = time.Time{}
	}
	return k.waited
}

// explain says what an error of the connection means.
func (c *Conn) explain(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late || unlessClosed(err) == nil { // and not by the peer
		if stopped := c.interrupted(); stopped != nil {
			return stopped
		}
	}
	if late {
		return err
	}
	return because(ErrReset, err)
}

// setLinger sets what a close of nc, also that by the system when the process
// ends, says to its peer: a reset with 0, an orderly end with -1 (socket(7),
// SO_LINGER). Connections that are not TCP know no reset.
func setLinger(nc net.Conn, sec int) {
	if tcp, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(sec)
	}
}

// innermost is what nc stands on if it is a layer over another connection, as
// that of crypto/tls is, and otherwise nc.
func innermost(nc net.Conn) net.Conn {
	for {
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = layer.NetConn()
	}
}
