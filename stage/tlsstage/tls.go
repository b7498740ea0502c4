package tlsstage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/accio-go/accio/stage"
)

// TLS is a stage that does the server's half of a TLS handshake before it calls the
// next handler, for which c.In is then what the client encrypts, and c.Reply what is
// encrypted for the client.
//
// A handshake that fails, a client certificate that is refused (also by a function of
// Config) and a record that is not genuine end a connection with [stage.ErrProtocol],
// as does an alert by which the client gives up. If it is the connection that fails,
// or a stage outside ends it, the cause is theirs.
//
// The client ends its stream by a close_notify, and may still listen then. A stream that
// ends without one has been cut, by a fault or by somebody on the way (RFC 8446, section
// 6.1): that is a [stage.ErrReset] and an io.ErrUnexpectedEOF, also within the
// handshake. What comes after a close_notify is ignored. At the end, and when everything
// outside is done (a commit, say), the client is sent a close_notify before the
// connection is closed, if that close is an orderly one; otherwise it is reset, as
// [stage.Serve] says. For the close_notify a client that takes nothing is waited for up
// to 5 seconds (see [tls.Conn.Close]).
//
// Limits outside of it are about encrypted bytes, and their time runs during its
// handshake; those inside are about the payload. Also inside they hold for what TLS writes
// on its own, such as its answers to key updates. A read deadline that passes does
// a TLS connection no harm once the handshake is done: a gate on either side may go on
// after one. A write deadline that a stage inside has set ends what can be written.
//
// It tells no [stage.Observer] that a handshake is done, since one of the protocol's own may
// follow inside; see [stage.Conn.HandshakeDone].
//
// It must see the bytes, so zero-copy ends here, and a [stage.Session] waits in place
// from here on. A connection takes no goroutine beside the one that serves it.
type TLS struct {
	// Config is the server's: it has a certificate, or a function that gives one. It
	// must not be changed. [Reloader.Config] makes one whose certificates follow their
	// files.
	Config *tls.Config

	// Limit is how long the handshake may take from the moment this stage is entered;
	// no byte restarts it. A client that has not completed it by then ends its connection
	// with [stage.ErrSlowHandshake]. 0 or less means no limit.
	Limit time.Duration
}

// Wrap does the handshake before next is called. If it fails, next is not called.
func (s TLS) Wrap(next stage.Handler) stage.Handler {
	if s.Config == nil || len(s.Config.Certificates) == 0 && s.Config.GetCertificate == nil && s.Config.GetConfigForClient == nil {
		panic("tlsstage: TLS without a certificate")
	}
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		w := &wire{Conn: c.Net, in: c.In, out: c.Reply, deadline: c.NewDeadline()}
		s := &session{Conn: tls.Server(w, s.Config), wire: w, limit: s.Limit}
		if err := s.handshake(); err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		c.Net, c.In, c.Reply = s.Conn, reader{s}, writer{s}
		return nil, nil
	}).Wrap(next)
}

// State returns the state of the TLS connection that c is at this place of its chain:
// the client's certificates, the name that it asked for, and so on. It reports false
// outside of [TLS].
func State(c *stage.Conn) (tls.ConnectionState, bool) {
	for nc := c.Net; nc != nil; {
		if t, ok := nc.(*tls.Conn); ok {
			return t.ConnectionState(), true
		}
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = layer.NetConn()
	}
	return tls.ConnectionState{}, false
}

// session is a TLS connection, and the wire it goes over.
type session struct {
	*tls.Conn
	wire  *wire
	limit time.Duration
}

func (s *session) handshake() error {
	if s.limit <= 0 {
		return s.explain(s.Handshake())
	}
	end := time.Now().Add(s.limit)
	if err := s.wire.SetDeadline(end); err != nil {
		return err
	}
	err := s.Handshake()
	if errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(end) {
		err = fmt.Errorf("%w: over %v", stage.ErrSlowHandshake, s.limit)
	} else {
		err = s.explain(err)
	}
	return errors.Join(err, s.wire.SetDeadline(time.Time{}))
}

// explain says what an error of the TLS connection means: that the wire has failed; that
// a deadline has passed, for who set it; or it is what the client did.
func (s *session) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case s.wire.failed(err), errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case err == io.EOF: // a close_notify in the midst of the handshake
		err = io.ErrUnexpectedEOF
	}
	if out := s.wire.outErr; out != nil && !errors.Is(out, stage.ErrReset) {
		// The answer to a key update could not be written, of which a tls.Conn makes that
		// what follows is not genuine. A client that has gone may have sent garbage before.
		return out
	}
	return fmt.Errorf("TLS: %w: %w", stage.ErrProtocol, err)
}

// reader is what the client sends.
type reader struct{ s *session }

func (r reader) Read(p []byte) (int, error) {
	n, err := r.s.Read(p)
	if err == io.EOF { // of a close_notify: at the end of the wire it is another error
		return n, err
	}
	return n, r.s.explain(err)
}

// writer is what the client is sent.
type writer struct{ s *session }

func (w writer) Write(p []byte) (int, error) {
	n, err := w.s.Write(p)
	return n, w.s.explain(err)
}

// wire is the connection that a tls.Conn stands on: what the stages outside have made
// of it. It keeps the errors by which a direction has failed for good, to tell them from
// those that are about TLS.
type wire struct {
	net.Conn // the one before, for its addresses and its Close
	in       io.Reader
	out      io.Writer
	deadline *stage.Deadline

	inErr, outErr error
}

// failed reports whether err, from the tls.Conn, is that of the wire. What goes wrong
// with an alert, say, is not.
func (w *wire) failed(err error) bool {
	return w.inErr != nil && errors.Is(err, w.inErr) || w.outErr != nil && errors.Is(err, w.outErr)
}

// NetConn returns the connection before.
func (w *wire) NetConn() net.Conn { return w.Conn }

// Read reads what is encrypted. It returns bytes or an error and not both, since a
// tls.Conn that has what it needs would take the error all the same.
func (w *wire) Read(p []byte) (int, error) {
	if w.inErr != nil {
		return 0, w.inErr
	}
	n, err := w.in.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = passing{err} // which comes again, if bytes have come first
	case err == io.EOF:
		err = fmt.Errorf("TLS: %w: no close_notify before the end: %w", stage.ErrReset, io.ErrUnexpectedEOF)
		w.inErr = err
	default:
		// Not as it is: a tls.Conn takes an io.ErrUnexpectedEOF between two records for
		// the end.
		err = fmt.Errorf("under TLS: %w", err)
		w.inErr = err
	}
	if n > 0 {
		return n, nil
	}
	return 0, err
}

func (w *wire) Write(p []byte) (int, error) {
	if w.outErr != nil { // or an alert would be waited for once more
		return 0, w.outErr
	}
	n, err := w.out.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("under TLS: %w", err)
		w.outErr = err
	}
	return n, err
}

func (w *wire) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

func (w *wire) SetReadDeadline(t time.Time) error  { return w.deadline.SetReadDeadline(t) }
func (w *wire) SetWriteDeadline(t time.Time) error { return w.deadline.SetWriteDeadline(t) }

// passing is a deadline that has passed, as a tls.Conn has to be told of it to be read
// again later: any net.Error that is not Temporary it takes for the end, and what is
// wrapped for no net.Error.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }
func (passing) Timeout() bool   { return true }
func (passing) Temporary() bool { return true }

var (
	_ stage.Stage = TLS{}
	_ net.Error   = passing{}
)
