package stage

import "context"

// Observer is told what becomes of one connection, for metrics or a page of what is
// under way. It learns of moments and numbers, never of bytes.
//
// Its methods are called one at a time, by the goroutine that serves the connection,
// which may be another one each time; c.Net of the connection may be looked at in them. They must not block, since the connection waits
// for them, and must not use the connection's In, Reply and Out. They are called in the
// order in which they are listed here, but for a HandshakeDone of a later frame: Ended is
// called exactly once and is the last call; each of the others may be missing. A panic in one ends the connection as one in
// a stage does, with the call of Ended that follows.
//
// Of several Observers of a connection, that of the innermost stage is called first.
type Observer interface {
	// HandshakeDone is called each time a [Handshake] inside has been completed, or
	// was ended early by a peer whose script allows it, and each time a stage of one's
	// own says so by [Conn.HandshakeDone]. Inside of [Frames] that is for each frame. TLS
	// and the header of a proxy are no such handshakes: where one is all the handshake that
	// there is, a stage right inside of it says so.
	HandshakeDone()

	// Passed is called when n more bytes (n >= 1) have reached the sink: for each
	// transfer, of some MiB at the most, after [Conn].Counter has counted them. Bytes
	// that a sink took of a write that failed are told of as well. A stage that
	// replaces Out by other means than [Conn.SetSink] keeps the bytes to itself, as it
	// does for [Count].
	Passed(n int)

	// Received is called when the peer's stream has ended well and all of it is in
	// the sink: what follows is the commit. That is when a [Save] inside is about to
	// commit, and right before Ended where there is none. It is called once at the
	// most, and not if what is inside has failed before.
	Received()

	// Ended is called when all that is inside has ended, a commit included, with how:
	// OutcomeOf(err, c.Counter.Count()) is the outcome. While a panic passes by, err
	// is an [ErrPanic].
	Ended(err error)
}

// NopObserver is an [Observer] that does nothing, to be embedded by those who want a
// few of the calls only.
type NopObserver struct{}

// HandshakeDone does nothing.
func (NopObserver) HandshakeDone() {}

// Passed does nothing.
func (NopObserver) Passed(int) {}

// Received does nothing.
func (NopObserver) Received() {}

// Ended does nothing.
func (NopObserver) Ended(error) {}

// Observe is a stage that tells an [Observer] of each connection what becomes of it.
// What is to be seen stands inside of it, so it is put outermost; a chain may have
// several. A panic passes by as an [ErrPanic], or comes as what a [Recover] inside has made
// of it.
//
// It counts the payload (see [Count]) and sees no bytes, so zero-copy survives it.
type Observe struct {
	// Accepted is called when a connection has entered this stage, and returns who is
	// to be told what follows; nil is nobody. As an Observer's methods it must not
	// block, and many goroutines may call it at a time. The connection's Number and
	// Counter may be looked at by any goroutine until Ended has returned. Its Net may
	// only here and in the Observer's methods, since stages replace it: who needs an
	// address elsewhere copies it. If
	// Accepted panics, the connection ends, and nobody is told of it.
	Accepted func(c *Conn) Observer
}

// Wrap has next observed.
func (s Observe) Wrap(next Handler) Handler {
	if s.Accepted == nil {
		panic("stage: Observe without Accepted")
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.count()
		o := s.Accepted(c)
		if o == nil {
			return nil, nil
		}
		if c.observation == nil {
			c.Out = NewWriter(c.Out, (*passedGate)(c))
		}
		seen := &observation{Observer: o, outer: c.observation}
		c.observation = seen
		return func(err error) error {
			end := errUnwinding
			defer func() {
				c.observation = seen.outer
				o.Ended(end)
			}()
			if err == nil {
				seen.receive()
			}
			end = err
			return err
		}, nil
	}).Wrap(next)
}

// observation is one Observer of a connection, and those of the stages outside.
type observation struct {
	Observer
	outer    *observation
	received bool
}

// receive tells o that everything has come, unless it has been told.
func (o *observation) receive() {
	if !o.received {
		o.received = true
		o.Received()
	}
}

// HandshakeDone tells those who observe c, also as a part of a connection whose frame it
// is, that a handshake is completed. [Handshake] calls it; a stage that has one of
// another kind with its peer may. Each call is passed on, and an Observer that times the
// handshake may well take the first for its end. So a layer under the handshake, such as TLS
// or the header of a proxy, does not call it. In a chain that has no other handshake, a
// [Bracket] right inside of the layer may do nothing but that. It is for the goroutine that
// serves the connection.
func (c *Conn) HandshakeDone() {
	for ; c != nil; c = c.whole {
		for o := c.observation; o != nil; o = o.outer {
			o.HandshakeDone()
		}
	}
}

// received tells them that everything has come.
func (c *Conn) received() {
	for o := c.observation; o != nil; o = o.outer {
		o.receive()
	}
}

// passedGate stands before the sink of a Conn that is observed.
type passedGate Conn

func (*passedGate) Allow(max int) (int, error) { return max, nil }

func (g *passedGate) Passed(n int, err error) error {
	if n > 0 {
		for o := g.observation; o != nil; o = o.outer {
			o.Passed(n)
		}
	}
	return err
}

var (
	_ Observer = NopObserver{}
	_ Gate     = (*passedGate)(nil)
)
