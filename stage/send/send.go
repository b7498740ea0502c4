// Package send is the client's side: it speaks the client's half of the handshake, sends a
// payload, ends its stream, and waits until the server confirms by its close.
package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/accio-go/accio/internal/netutil"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/internal/socket"
)

// Sender sends payloads. It needs a Script; its limits are off by default, and 0 or less
// means no limit.
type Sender struct {
	// Script is the client's half of the handshake, such as stage.Accio.Mirror().
	Script stage.Script

	// Greeting is the maximum time for each step that Script expects of the server.
	Greeting time.Duration

	// Stall is the maximum time for which the server takes no byte. It does not limit a
	// layer, such as TLS, which must stand on a [NewConn].
	Stall time.Duration

	// Confirm is the maximum time until the server closes. On Linux it starts when the
	// system of the server has acknowledged all bytes, elsewhere at the end of the stream.
	Confirm time.Duration

	// Sent, if not nil, counts the bytes of the payload as they are sent.
	Sent *stage.Counter
}

var (
	// ErrSource means that reading the payload failed or ended early.
	ErrSource = errors.New("the payload could not be read")

	// ErrGone means that the server closed before the whole payload was sent. A reset
	// during the send of a file may be an ErrGone as well.
	ErrGone = errors.New("the server closed before it had everything")
)

// Error is a failure of [Sender.Send]. It wraps Err.
type Error struct {
	Step string // Handshake, Payload or Confirm
	Sent int64  // bytes of payload
	Err  error
}

// The steps of a [Sender], in order.
const (
	Handshake = "handshake"
	Payload   = "payload"
	Confirm   = "confirmation" // everything is sent; the server's close is missing
)

func (e *Error) Error() string {
	return fmt.Sprintf("%s, after %d bytes of payload: %v", e.Step, e.Sent, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Send sends payload over nc, and returns the number of bytes sent. It takes over nc and
// closes it. The error is nil only if the server closed in an orderly way after the end of
// the stream, and sent nothing beyond its part of the script. Otherwise it is an *[Error],
// which wraps stage.ErrIdle if a limit has passed, stage.ErrShutdown if ctx was cancelled,
// stage.ErrProtocol, stage.ErrReset, [ErrSource] or [ErrGone].
//
// Send sends nothing before its turn in the script. If Send fails, or the process dies, the
// connection is reset, so the server cannot take a part for the whole. The kernel sends a
// regular *os.File, where [stage.Copy] can. A file that shrinks meanwhile is an ErrSource.
//
// When ctx is cancelled or the server is gone, Send ends a waiting Read of the payload by
// its method SetReadDeadline, which pipes, terminals and connections have. Without that
// method Send returns when the Read does.
func (s Sender) Send(ctx context.Context, nc net.Conn, payload io.Reader) (int64, error) {
	if s.Sent == nil {
		s.Sent = new(stage.Counter)
	}
	before := s.Sent.Count()
	u := &upload{Sender: s, step: Handshake, socket: socket.New(nc, connectionBroke), payload: payload}
	defer u.socket.Reset() // has no effect after Close
	err := u.run(ctx)
	sent := s.Sent.Count() - before
	if err != nil {
		return sent, &Error{Step: u.step, Sent: sent, Err: err}
	}
	u.socket.Release()
	u.socket.Close()
	return sent, nil
}

func connectionBroke(err error) error { return fmt.Errorf("%w: %w", stage.ErrReset, err) }

// upload is the state of one Send.
type upload struct {
	Sender
	step    string
	socket  *socket.Socket
	payload io.Reader
}

func (u *upload) run(ctx context.Context) error {
	shutDown := func() { u.abandon(fmt.Errorf("%w: %w", stage.ErrShutdown, context.Cause(ctx))) }
	if ctx.Err() != nil {
		shutDown() // at once: AfterFunc would start a goroutine
	}
	defer context.AfterFunc(ctx, shutDown)()
	nc := u.socket.Conn()
	if netutil.Innermost(nc) == nc { // not a layer
		limitStall(u.socket, u.Stall)
	}
	if err := u.handshake(); err != nil {
		return err
	}
	u.step = Payload
	end, ok := nc.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T cannot end its stream and still listen", nc)
	}
	if err := u.send(); err != nil {
		return err
	}
	u.step = Confirm
	if err := end.CloseWrite(); err != nil {
		return connectionBroke(err)
	}
	return u.confirm()
}

// abandon ends reads and writes of the connection, and a read of the payload, with err.
func (u *upload) abandon(err error) {
	u.socket.Interrupt(err)
	if d, ok := u.payload.(interface{ SetReadDeadline(time.Time) error }); ok {
		d.SetReadDeadline(time.Unix(1, 0))
	}
}

// handshake runs the script one step at a time, since each step has its own limit.
func (u *upload) handshake() error {
	for i, step := range u.Script.Steps {
		deadline := u.socket.NewDeadline(func(time.Time) (time.Time, error) {
			return time.Time{}, fmt.Errorf("%w: no %q within %v", stage.ErrIdle, step.Expect, u.Greeting)
		})
		if u.Greeting > 0 && step.Expect != "" {
			deadline.SetRead(time.Now().Add(u.Greeting))
		}
		err := stage.Script{Steps: u.Script.Steps[i : i+1]}.Run(u.socket, u.socket)
		deadline.SetRead(time.Time{})
		if err == io.ErrUnexpectedEOF {
			return fmt.Errorf("%w: it did not say %q", ErrGone, step.Expect)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// send sends the payload, and reads meanwhile: a close of the server comes too early here,
// and anything else breaks the protocol.
func (u *upload) send() error {
	quiet := u.socket.NewDeadline(func(time.Time) (time.Time, error) { return time.Time{}, errQuiet })
	defer quiet.SetRead(time.Time{})
	heard := make(chan error, 1)
	go func() {
		err := u.listen()
		if err != errQuiet {
			u.abandon(err)
		}
		heard <- err
	}()
	err := u.copy()
	quiet.SetRead(time.Now())
	answer := <-heard
	if answer == errQuiet && err == nil {
		quiet.SetRead(time.Now().Add(lastListen)) // for a close at this moment
		answer = u.listen()
	}
	switch {
	case errors.Is(err, stage.ErrReset) && errors.Is(err, syscall.ECONNRESET):
		return err // the write got the reset, and the read an end of stream
	case answer != errQuiet && !errors.Is(err, ErrSource):
		return answer
	}
	return err
}

// errQuiet means that the server has sent nothing.
var errQuiet = errors.New("send: the server sent nothing")

// lastListen is how long send listens again before the end of the stream.
const lastListen = time.Millisecond

// copy sends the payload.
func (u *upload) copy() error {
	file, _ := u.payload.(*os.File)
	before := fileSize(file)
	if _, err := stage.Copy(stage.NewWriter(u.socket, u.Sent), stage.NewReader(u.payload, source{u})); err != nil {
		return err
	}
	if after := fileSize(file); after < before {
		return fmt.Errorf("%w: %s has shrunk from %d bytes to %d meanwhile", ErrSource, file.Name(), before, after)
	}
	return nil
}

// fileSize returns the size of a regular file, or 0.
func fileSize(file *os.File) int64 {
	fi, err := file.Stat() // fails if file is nil
	if err != nil || !fi.Mode().IsRegular() {
		return 0
	}
	return fi.Size()
}

// confirm waits for the close of the server. While the system still holds bytes for the
// server, Stall is the limit, and then Confirm.
func (u *upload) confirm() error {
	stalled := watchStall(u.socket, u.Stall)
	pause := time.Millisecond
	var end time.Time // of Confirm
	deadline := u.socket.NewDeadline(func(now time.Time) (next time.Time, err error) {
		switch {
		case end.IsZero() && u.socket.Backlog() > 0:
			next = now.Add(pause)
			pause = min(2*pause, maxPause)
			if u.Stall > 0 {
				if _, err = stalled(now); err != nil {
					u.step = Payload
				}
			}
			return next, err
		case u.Confirm <= 0:
			return time.Time{}, nil
		case end.IsZero():
			end = now.Add(u.Confirm)
		}
		if !now.Before(end) {
			return end, fmt.Errorf("%w: it did not close within %v", stage.ErrIdle, u.Confirm)
		}
		return end, nil
	})
	deadline.SetRead(time.Now())
	if err := u.listen(); err != ErrGone {
		return err
	}
	return nil
}

// maxPause is the longest time between two looks of confirm at the backlog.
const maxPause = 250 * time.Millisecond

// listen reads until the server closes, which is ErrGone, or until another event.
func (u *upload) listen() error {
	var b [64]byte
	n, err := u.socket.Read(b[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: it said %q where its close should be", stage.ErrProtocol, b[:n])
	case err == io.EOF:
		return ErrGone
	}
	return err
}

// source is a Gate that makes errors of the payload an ErrSource, unless abandon has ended
// the read.
type source struct{ u *upload }

func (source) Allow(max int) (int, error) { return max, nil }

func (g source) Passed(_ int, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if stopped := g.u.socket.Interrupted(); stopped != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return stopped
	}
	return fmt.Errorf("%w: %w", ErrSource, err)
}
