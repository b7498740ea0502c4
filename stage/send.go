package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Sender is the other side of a server's chain, for clients: it speaks its half
// of a handshake, sends a payload, ends its stream, and waits for the server's
// word. The zero value but for Script waits for ever.
type Sender struct {
	// Script is the client's half of the handshake: Accio.Mirror(), say.
	Script Script

	// Greeting is how long the server may take for each thing that Script
	// expects, Stall how long it may take no byte of the payload, and Confirm
	// how long it may take to close once it has the end of the stream: on Linux
	// that is when its system has acknowledged everything, elsewhere when ours
	// was given the end. 0 or less means for ever.
	Greeting, Stall, Confirm time.Duration

	// Sent, if not nil, counts the payload's bytes as they are sent.
	Sent *Counter
}

// Where a [Sender] fails, beside what [ErrIdle] and the others tell.
var (
	// ErrSource: the payload could not be read, or not all of it.
	ErrSource = errors.New("what is to be sent could not be read")

	// ErrGone: the server closed before the whole payload was sent: it has
	// given up on it. A reset that comes while a file is being sent may be told
	// as this, too.
	ErrGone = errors.New("the server closed before it had everything")
)

// SendError is how [Sender.Send] failed. For errors.Is it is what lies beneath.
type SendError struct {
	Step SendStep
	Sent int64 // bytes of payload that were sent
	Err  error
}

// SendStep is a part of what a [Sender] does.
type SendStep string

// The steps of a Sender, in order.
const (
	StepHandshake SendStep = "handshake"
	StepPayload   SendStep = "payload"
	StepConfirm   SendStep = "confirmation" // all is sent; the server's close is missing
)

func (e *SendError) Error() string {
	return fmt.Sprintf("%s, after %d bytes of payload: %v", e.Step, e.Sent, e.Err)
}

func (e *SendError) Unwrap() error { return e.Err }

// Send sends payload to the server at the other end of nc, which it takes over
// and closes, and returns the number of bytes sent. It returns nil only if the
// server has closed in an orderly way after the end of the stream, and said
// nothing beside its part of the script; otherwise a *[SendError], which is
// [ErrIdle] if a limit has passed, [ErrProtocol], [ErrReset], [ErrShutdown] if
// ctx was cancelled, [ErrSource] or [ErrGone].
//
// Nothing is sent before the script has it. If Send fails, also if the process
// dies, the connection is reset, so that the server does not take what it has
// for the whole. A regular *os.File is sent by the kernel, where [Copy] can; one
// that has become shorter meanwhile is an ErrSource.
//
// A payload that has a SetReadDeadline, as pipes, terminals and connections do,
// has a Read that waits ended by it when ctx is cancelled or the server is gone:
// its read deadline is in the past then. With any other payload Send returns when
// that Read does.
func (s Sender) Send(ctx context.Context, nc net.Conn, payload io.Reader) (int64, error) {
	if s.Sent == nil {
		s.Sent = new(Counter)
	}
	step, before := StepHandshake, s.Sent.Count()
	c := new(Conn)
	c.attach(ctx, nc, 0)
	defer c.detach(false)
	err := s.send(ctx, c, payload, &step)
	c.detach(err == nil)
	sent := s.Sent.Count() - before
	if err != nil {
		err = &SendError{Step: step, Sent: sent, Err: err}
	}
	return sent, err
}

func (s Sender) send(ctx context.Context, c *Conn, payload io.Reader, step *SendStep) error {
	reply := c.Reply
	if s.Stall > 0 {
		reply = NewWriter(reply, NewStallGate(c, s.Stall))
	}
	deadline := c.NewDeadline()
	if err := s.handshake(c, reply, deadline); err != nil {
		return err
	}
	*step = StepPayload
	end, ok := c.Net.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T cannot end its stream and still listen", c.Net)
	}
	abandon := func(err error) {
		c.interrupt(err)
		if d, ok := payload.(ReadDeadliner); ok {
			d.SetReadDeadline(time.Unix(1, 0))
		}
	}
	defer context.AfterFunc(ctx, func() { abandon(because(ErrShutdown, context.Cause(ctx))) })()

	// The server has nothing more to say but its close. To know whether that
	// comes too early somebody has to listen while the payload is sent.
	answer := make(chan error, 1)
	go func() {
		err := listen(c.In)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			abandon(err) // there is no sense in sending on
		}
		answer <- err
	}()
	err := s.copy(c, reply, payload)
	deadline.SetReadDeadline(time.Unix(1, 0))
	said := <-answer
	if errors.Is(said, os.ErrDeadlineExceeded) && err == nil {
		// What has come at this very moment counts as well.
		deadline.SetReadDeadline(time.Now().Add(lastLook))
		said = listen(c.In)
	}
	switch {
	case errors.Is(err, ErrReset) && errors.Is(err, syscall.ECONNRESET):
		return err // it was told here, and is an end of stream to the listener
	case !errors.Is(said, os.ErrDeadlineExceeded) && !errors.Is(err, ErrSource):
		return said
	case err != nil:
		return err
	}

	*step = StepConfirm
	if err := end.CloseWrite(); err != nil {
		return because(ErrReset, err)
	}
	return s.confirm(c, deadline, step)
}

// copy sends the payload, and counts it.
func (s Sender) copy(c *Conn, reply io.Writer, payload io.Reader) error {
	file, _ := payload.(*os.File)
	before := fileSize(file)
	if _, err := Copy(NewWriter(reply, s.Sent), NewReader(payload, sourceGate{c})); err != nil {
		return err
	}
	if after := fileSize(file); after < before {
		return fmt.Errorf("%w: %s has shrunk from %d bytes to %d meanwhile", ErrSource, file.Name(), before, after)
	}
	return nil
}

// fileSize is that of a regular file, or 0.
func fileSize(file *os.File) int64 {
	if file == nil {
		return 0
	}
	fi, err := file.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return 0
	}
	return fi.Size()
}

// confirm waits for the server's close. Until the server has all that the system
// still holds for it, the limit is that of the payload.
func (s Sender) confirm(c *Conn, deadline *Deadline, step *SendStep) error {
	stall := watch{nc: innermost(c.Net), limit: s.Stall}
	if s.Stall <= 0 {
		stall.limit = 1 << 62
	}
	stall.start()
	for pause := time.Millisecond; backlog(stall.nc) > 0; pause = min(2*pause, maxPause) {
		next, err := stall.look()
		if err != nil {
			*step = StepPayload
			return err
		}
		if after := time.Now().Add(pause); next.After(after) {
			next = after
		}
		deadline.SetReadDeadline(next)
		if err := listen(c.In); !errors.Is(err, os.ErrDeadlineExceeded) {
			return confirmed(err)
		}
	}
	if s.Confirm > 0 {
		deadline.SetReadDeadline(time.Now().Add(s.Confirm))
	} else {
		deadline.SetReadDeadline(time.Time{})
	}
	err := listen(c.In)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it did not close within %v", ErrIdle, s.Confirm)
	}
	return confirmed(err)
}

// maxPause is how long a Sender goes without a look at what the server has.
const maxPause = 250 * time.Millisecond

// confirmed is what the end of listening means after the end of the stream.
func confirmed(err error) error {
	if err == ErrGone {
		return nil // as it should be, now
	}
	return err
}

// lastLook is how long a Sender listens once more before it ends its stream.
const lastLook = time.Millisecond

// handshake speaks the script, a step at a time, since each has its own time.
func (s Sender) handshake(c *Conn, reply io.Writer, deadline *Deadline) error {
	for _, st := range s.Script.Steps {
		if s.Greeting > 0 && st.expect != "" {
			deadline.SetReadDeadline(time.Now().Add(s.Greeting))
		}
		err := st.run(c.In, reply)
		deadline.SetReadDeadline(time.Time{})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("%w: no %q within %v", ErrIdle, st.expect, s.Greeting)
		case err == io.ErrUnexpectedEOF:
			return fmt.Errorf("%w: it did not say %q", ErrGone, st.expect)
		case err != nil:
			return err
		}
	}
	return nil
}

// listen waits for the server's close, which is ErrGone, or what else comes.
func listen(in io.Reader) error {
	var b [64]byte
	n, err := in.Read(b[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: it said %q where its close should be", ErrProtocol, b[:n])
	case err == io.EOF:
		return ErrGone
	default:
		return err
	}
}

// sourceGate says of errors that they came from the payload's source, unless its
// Read was ended together with the connection.
type sourceGate struct{ c *Conn }

func (sourceGate) Allow(max int) (int, error) { return max, nil }

func (g sourceGate) Passed(_ int, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if stopped := g.c.interrupted(); stopped != nil {
			return stopped
		}
	}
	return because(ErrSource, err)
}
