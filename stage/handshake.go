package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// Script is one side of a fixed dialogue: the texts to send and to expect, in order.
type Script struct {
	Steps []Step

	// AllowEnd says that the peer may end its stream before the script is complete, as
	// long as every byte so far was right. [Handshake] then takes the payload to be empty.
	AllowEnd bool
}

// Step is one step of a [Script]. It sends Send, if that is not empty, in one write. Then it
// takes exactly Expect from the peer, in however many pieces that arrives.
type Step struct{ Send, Expect string }

// Mirror returns the script of the other side, which sends what s expects and expects what s
// sends. It does not allow an early end.
func (s Script) Mirror() Script {
	var m Script
	for _, st := range s.Steps {
		if st.Send != "" {
			m.Steps = append(m.Steps, Step{Expect: st.Send})
		}
		if st.Expect != "" {
			m.Steps = append(m.Steps, Step{Send: st.Expect})
		}
	}
	return m
}

// Run speaks the script with a peer that writes to in and reads from out. It takes no byte
// after the script from in.
//
// Run returns an [ErrProtocol] at the first wrong byte, without waiting for the rest. If in
// ends before the script is complete, Run returns io.ErrUnexpectedEOF. Other errors come
// from in and out.
func (s Script) Run(in io.Reader, out io.Writer) error {
	buf := readBuffers.Get().(*[maxRead]byte)
	defer readBuffers.Put(buf)
	for i, st := range s.Steps {
		if err := st.run(in, out, buf[:]); err == io.ErrUnexpectedEOF {
			return err
		} else if err != nil {
			return fmt.Errorf("handshake, step %d, %w", i+1, err)
		}
	}
	return nil
}

func (st Step) run(in io.Reader, out io.Writer, buf []byte) error {
	if st.Send != "" {
		if _, err := io.WriteString(out, st.Send); err != nil && !endedBefore(err) {
			return fmt.Errorf("sending %q: %w", st.Send, err)
		}
	}
	for want := st.Expect; want != ""; {
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
		if err != nil {
			return fmt.Errorf("expecting %q: %w", want, err)
		}
	}
	return nil
}

// maxRead is how many expected bytes run reads at once.
const maxRead = 64

// readBuffers holds *[maxRead]byte.
var readBuffers = sync.Pool{New: func() any { return new([maxRead]byte) }}

// endedBefore reports whether err, from a write, means that the peer closed after the
// orderly end of its stream. All it sent can still be read then: a client may send
// everything and close without listening. On Linux that is EPIPE, and a stream that broke
// off is ECONNRESET (tcp_reset in net/ipv4/tcp_input.c). Elsewhere the two cannot be
// distinguished, and both count as broken off.
func endedBefore(err error) bool { return resetAfterEnd && errors.Is(err, syscall.EPIPE) }

// Handshake is a stage that speaks Script with the client before it calls the next handler.
// The bytes of the handshake never reach the next handler, and Handshake takes no byte after
// them.
//
// It reads only the header, so zero-copy survives it.
type Handshake struct {
	Script Script

	// Limit is how long the whole script may take from the moment this stage is entered.
	// Unlike with [Idle], no byte restarts it. After that the connection ends with
	// [ErrSlowHandshake]. 0 or less means no limit.
	Limit time.Duration
}

// Wrap speaks the script before next is called. If it fails, next is not called. Nor is next
// called if the client ends its stream within a script that allows it: that connection is
// done, and its payload is empty.
func (s Handshake) Wrap(next Handler) Handler {
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		if s.Limit > 0 {
			deadline := c.limitTime(s.Limit, ErrSlowHandshake)
			defer deadline.SetDeadline(time.Time{})
		}
		err := s.Script.Run(c.In, c.Reply)
		ended := err == io.ErrUnexpectedEOF
		switch {
		case err == nil, ended && s.Script.AllowEnd:
			c.HandshakeDone()
		case ended:
			return nil, fmt.Errorf("handshake: %w: %w", ErrProtocol, err)
		}
		if ended {
			return nil, io.EOF
		}
		return nil, err
	}).Wrap(next)
}
