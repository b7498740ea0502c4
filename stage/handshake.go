package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// Script is one side of a dialogue whose words are known beforehand: what to
// send and what to expect, in order.
type Script struct {
	Steps []Step

	// AllowEnd says that the peer may end its stream before the script is
	// complete, as long as every byte so far was right; [Handshake] then takes
	// the payload to be empty.
	AllowEnd bool
}

// Step is one step of a [Script]: either some bytes to send, or some to expect.
type Step struct{ send, expect string }

// Send is the step that sends s in one write.
func Send(s string) Step { return Step{send: s} }

// Expect is the step that takes exactly s from the peer, however it is cut.
func Expect(s string) Step { return Step{expect: s} }

// Mirror returns the script of the other side, which sends what s expects and
// expects what s sends. It does not allow an early end.
func (s Script) Mirror() Script {
	m := Script{Steps: make([]Step, len(s.Steps))}
	for i, st := range s.Steps {
		m.Steps[i] = Step{send: st.expect, expect: st.send}
	}
	return m
}

// Run speaks the script with a peer from whom in reads and to whom out writes.
// It takes from in not one byte more than the script expects, so that the first
// byte after it is the next that is read.
//
// A byte that is not the expected one is an [ErrProtocol], at once and however
// many are still missing. If in ends before the script is complete, Run returns
// io.ErrUnexpectedEOF. Other errors are those of in and out.
func (s Script) Run(in io.Reader, out io.Writer) error {
	for i := range s.Steps {
		if err := s.run(i, in, out); err != nil {
			return err
		}
	}
	return nil
}

// run speaks the i-th step.
func (s Script) run(i int, in io.Reader, out io.Writer) error {
	err := s.Steps[i].run(in, out)
	if err != nil && err != io.ErrUnexpectedEOF && err != errAwait {
		err = fmt.Errorf("handshake, step %d, %w", i+1, err)
	}
	return err
}

func (st Step) run(in io.Reader, out io.Writer) error {
	if st.send != "" {
		if _, err := io.WriteString(out, st.send); err != nil && !endedBefore(err) {
			return fmt.Errorf("sending %q: %w", st.send, err)
		}
	}
	buf := make([]byte, min(len(st.expect), maxWord))
	for want := st.expect; want != ""; {
		n, err := in.Read(buf[:min(len(want), len(buf))])
		if got := string(buf[:n]); got != want[:n] {
			return fmt.Errorf("expecting %q: %w: got %q", want, ErrProtocol, got)
		}
		if want = want[n:]; want == "" {
			break
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err == errAwait {
			return err
		}
		if err != nil {
			return fmt.Errorf("expecting %q: %w", want, err)
		}
	}
	return nil
}

// maxWord is how much of a word is read at once.
const maxWord = 64

// endedBefore reports whether err, from a write to the peer, only says that the
// peer has closed after it had ended its stream in an orderly way. Everything
// that it sent can still be read then, up to its end of stream: a client may
// well send all it has and close without listening. On Linux that is EPIPE (a
// reset that arrives after the peer's FIN), where a stream that broke off is
// ECONNRESET (tcp_reset in net/ipv4/tcp_input.c); elsewhere the two cannot be
// told apart, and both count as broken off.
func endedBefore(err error) bool { return resetAfterEnd && errors.Is(err, syscall.EPIPE) }

// Handshake is a stage that speaks Script with the peer before it calls the
// next handler. The bytes of the handshake never reach the next handler, and no
// byte after them is taken from it.
//
// It reads only the header, so zero-copy survives it.
type Handshake struct {
	Script Script

	// Limit is how long the whole of the script may take from the moment this stage
	// is entered: unlike with [Idle], no byte restarts it. A peer that has not said
	// all by then ends its connection with [ErrSlowHandshake]. 0 or less means no
	// limit.
	Limit time.Duration
}

// Wrap speaks the script before next is called. If it fails, next is not
// called. Nor is it if the peer has ended its stream within a script that
// allows it: that connection is done, and its payload is empty.
func (s Handshake) Wrap(next Handler) Handler {
	h := Bracket(completed).Wrap(next)
	for i := len(s.Script.Steps) - 1; i >= 0; i-- {
		// Step by step, so that a Session can be left before each word of the peer.
		h = step{s.bracket(i), beforeBytes}.wrap(h)
	}
	if s.Limit > 0 {
		h = Bracket(s.begin).Wrap(h)
	}
	return h
}

// begin lets the Limit run, until completed is called or the connection has ended.
func (s Handshake) begin(_ context.Context, c *Conn) (func(error) error, error) {
	t := new(timeout)
	t.start(c, s.Limit)
	c.handshake = t
	return func(err error) error {
		if c.handshake != nil {
			c.endHandshake()
		}
		return err
	}, errors.Join(t.err, t.SetWriteDeadline(t.end))
}

// completed ends the Limit, if there is one.
func completed(_ context.Context, c *Conn) (after func(error) error, err error) {
	if c.handshake != nil {
		err = c.endHandshake()
	}
	if err == nil {
		c.HandshakeDone()
	}
	return nil, err
}

func (c *Conn) endHandshake() error {
	err := c.handshake.stop()
	c.handshake = nil
	return err
}

// bracket speaks the i-th step of the script.
func (s Handshake) bracket(i int) Bracket {
	return func(_ context.Context, c *Conn) (func(error) error, error) {
		switch err := s.Script.run(i, c.In, c.Reply); {
		case err == io.ErrUnexpectedEOF && s.Script.AllowEnd:
			c.HandshakeDone()
			return nil, io.EOF
		case err == io.ErrUnexpectedEOF:
			return nil, fmt.Errorf("handshake: %w: %w", ErrProtocol, err)
		case c.handshake != nil:
			return nil, c.handshake.explain(err, ErrSlowHandshake)
		default:
			return nil, err
		}
	}
}
