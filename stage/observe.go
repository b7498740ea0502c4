package stage

import "context"

// Observer follows one connection, for metrics or a page of connections under way. It
// receives events and numbers, never bytes.
//
// The goroutine that serves the connection calls its methods, one at a time. They may look at
// the Net of the connection. They must not block, since the connection waits for them, and
// must not use its In, Reply and Out. They are called in the order below, except for a
// HandshakeDone of a later frame. Ended is called exactly once, and last; each of the others
// may be missing. A panic in one of them ends the connection as a panic in a stage does, and
// Ended follows.
//
// If a connection has several Observers, the innermost one is called first.
type Observer interface {
	// HandshakeDone is called each time a [Handshake] inside is complete, or ends early as
	// its script allows. It is also called for each call of [Conn.HandshakeDone].
	HandshakeDone()

	// Passed is called for each transfer when n more bytes (n >= 1, some MiB at most) have
	// reached the sink, after the Counter of the [Conn] has counted them. Bytes that a sink
	// took of a failed write are included. A stage that replaces Out otherwise than by
	// [Conn.SetSink] hides the bytes, as it does from [Count].
	Passed(n int)

	// Received is called when the client's stream has ended well and all of it is in the
	// sink: before the commit of a [Save] inside, or right before Ended if there is none. It
	// is called once at most, and not if the handler inside has failed before.
	Received()

	// Ended is called when the handler inside has returned, a commit included, with its
	// error: OutcomeOf(err, c.Counter.Count()) is the outcome. While a panic passes, err is
	// an [ErrPanic].
	Ended(err error)
}

// Observe is a stage that reports each connection to an [Observer]. It observes the stages
// inside of it, so it stands outermost. A chain may have several. It reports a panic as an
// [ErrPanic].
//
// Observe counts the payload (see [Count]) and sees no bytes, so zero-copy survives it.
type Observe struct {
	// Accepted is called when a connection has entered this stage, and returns its
	// Observer; nil means none. It must not block, and many goroutines may call it at the
	// same time. Any goroutine may read the connection's Number and Counter until Ended
	// has returned. Only this call and the methods of the Observer may read its Net, since
	// stages replace it. If Accepted panics, the connection ends.
	Accepted func(c *Conn) Observer
}

// Wrap reports next to an Observer.
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
		outer := c.observations
		if outer == nil || outer.conn != c {
			c.Out = NewWriter(c.Out, (*observerGate)(c))
		}
		seen := &observation{Observer: o, conn: c, outer: outer}
		c.observations = seen
		return func(err error) error {
			end := errUnwinding
			defer func() {
				c.observations = outer
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

// observation is one Observer of a connection or frame. outer is the next one outside:
// after the last one of a frame, the first one of its connection.
type observation struct {
	Observer
	conn     *Conn
	outer    *observation
	received bool
}

// receive calls Received, once.
func (o *observation) receive() {
	if !o.received {
		o.received = true
		o.Received()
	}
}

// HandshakeDone reports a complete handshake to the observers of c, and for a frame to its
// connection's. [Handshake] calls it; a stage with a handshake of its own may. An Observer
// may take the first call for the end of the handshake, so a layer under the handshake,
// such as TLS or the header of a proxy, does not call it. In a chain that has no other
// handshake, a [Bracket] right inside of the layer may call it. Only the goroutine that
// serves the connection may call it.
func (c *Conn) HandshakeDone() {
	for o := c.observations; o != nil; o = o.outer {
		o.HandshakeDone()
	}
}

// received reports to the observers of c that all of its payload has arrived.
func (c *Conn) received() {
	for o := c.observations; o != nil && o.conn == c; o = o.outer {
		o.receive()
	}
}

// observerGate stands in front of the sink of a Conn that is observed.
type observerGate Conn

func (*observerGate) Allow(max int) (int, error) { return max, nil }

func (g *observerGate) Passed(n int, err error) error {
	if n > 0 {
		for o := g.observations; o != nil && o.conn == (*Conn)(g); o = o.outer {
			o.Passed(n)
		}
	}
	return err
}

var _ Gate = (*observerGate)(nil)
