package tlsstage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/accio-go/accio/stage"
)

// TLS is a stage that does the server's half of a TLS handshake before it calls the next
// handler. Inside, c.In has the decrypted bytes of the client, and TLS encrypts c.Reply.
//
// These end a connection with [stage.ErrProtocol]: a failed handshake, a refused client
// certificate (also by a function of Config), a forged record, and a fatal alert of the
// client. If the connection fails, or a stage outside ends it, the error is theirs.
//
// The client ends its stream with a close_notify, and may still read then. A stream that ends
// without one was cut, by a fault or an attack (RFC 8446, section 6.1): that is a
// [stage.ErrReset] and an io.ErrUnexpectedEOF, also within the handshake. Data after a
// close_notify is ignored. TLS sends a close_notify after all stages outside have finished (a
// commit, say), if the close is orderly. Otherwise the connection is reset, as
// [stage.Serve] says. It waits up to 5 seconds for a client that does not take the
// close_notify (see [tls.Conn.Close]).
//
// Limits outside count encrypted bytes, and their time includes the handshake. Limits inside
// count the payload. Both limits also hold for bytes that TLS itself writes, such as answers
// to key updates.
//
// TLS reports no handshake to a [stage.Observer], since the handshake of the protocol may
// follow inside; see [stage.Conn.HandshakeDone].
//
// It must see the bytes, so zero-copy ends here.
type TLS struct {
	// Config is the configuration of the server. It needs a certificate, or a function that
	// returns one, and nothing may change it. [Reloader.Config] returns one that reloads
	// its certificates.
	Config *tls.Config

	// Limit is the maximum time for the handshake, from the moment the connection enters
	// this stage. No byte restarts it. After that the connection ends with
	// [stage.ErrSlowHandshake]. 0 or less means no limit.
	Limit time.Duration
}

// Wrap does the handshake before it calls next. If that fails, it does not call next. It
// panics if Config has no certificate.
func (s TLS) Wrap(next stage.Handler) stage.Handler {
	if s.Config == nil || len(s.Config.Certificates) == 0 && s.Config.GetCertificate == nil && s.Config.GetConfigForClient == nil {
		panic("tlsstage: TLS without a certificate")
	}
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		w := &wire{Conn: c.Net, in: c.In, out: c.Reply, deadline: c.NewDeadline(nil)}
		conn := &session{tls.Server(w, s.Config), w}
		if err := conn.handshake(c, s.Limit); err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		c.Net, c.In, c.Reply = conn.tls, conn, conn
		return nil, nil
	}).Wrap(next)
}

// State returns the state of the TLS connection, for a stage inside [TLS]: the certificates
// of the client, the requested server name, and so on. It reports false outside of TLS.
func State(c *stage.Conn) (tls.ConnectionState, bool) {
	for nc := c.Net; ; {
		switch l := nc.(type) {
		case *tls.Conn:
			return l.ConnectionState(), true
		case interface{ NetConn() net.Conn }:
			nc = l.NetConn()
		default:
			return tls.ConnectionState{}, false
		}
	}
}

// session is a TLS connection and the wire under it.
type session struct {
	tls  *tls.Conn
	wire *wire
}

func (s *session) handshake(c *stage.Conn, limit time.Duration) error {
	if limit > 0 {
		deadline := c.NewDeadline(func(time.Time) (time.Time, error) {
			return time.Time{}, fmt.Errorf("%w: over %v", stage.ErrSlowHandshake, limit)
		})
		deadline.SetDeadline(time.Now().Add(limit))
		defer deadline.SetDeadline(time.Time{})
	}
	return s.explain(s.tls.Handshake())
}

func (s *session) Read(p []byte) (int, error) {
	n, err := s.tls.Read(p)
	if err == io.EOF { // a close_notify: the end of the wire is a wireError
		return n, err
	}
	return n, s.explain(err)
}

func (s *session) Write(p []byte) (int, error) {
	n, err := s.tls.Write(p)
	return n, s.explain(err)
}

// explain returns an error of the wire as it is, and any other as a fault of the client.
func (s *session) explain(err error) error {
	out := s.wire.outErr
	switch {
	case err == nil || isWireError(err):
		return err
	case out != nil && !errors.Is(out, stage.ErrReset):
		// The answer to a key update could not be written. A tls.Conn reports that as a
		// forged record. But a client that has reset may have sent garbage before.
		return out
	case err == io.EOF: // a close_notify in the middle of the handshake
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("TLS: %w: %w", stage.ErrProtocol, err)
}

// wire is the connection under a tls.Conn, through the stages outside. Its errors are
// wireErrors.
type wire struct {
	net.Conn // for its addresses and its Close
	in       io.Reader
	out      io.Writer
	deadline stage.Deadline
	outErr   error
}

// wireError distinguishes an error of the wire from an error of TLS. It hides an
// io.ErrUnexpectedEOF, which a tls.Conn takes for the end between two records.
type wireError struct{ error }

func (e *wireError) Unwrap() error { return e.error }

func isWireError(err error) bool {
	var e *wireError
	return errors.As(err, &e)
}

// NetConn returns the connection before.
func (w *wire) NetConn() net.Conn { return w.Conn }

// Read reads encrypted bytes. It returns bytes or an error, not both: a tls.Conn would return
// the error even if the bytes are enough. The next Read returns the error, which is final.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	switch {
	case n > 0 || err == nil:
		return n, nil
	case err == io.EOF:
		return 0, &wireError{fmt.Errorf("TLS: %w: no close_notify before the end: %w", stage.ErrReset, io.ErrUnexpectedEOF)}
	}
	return 0, &wireError{fmt.Errorf("under TLS: %w", err)}
}

func (w *wire) Write(p []byte) (int, error) {
	if w.outErr != nil { // or a limit outside would start again for an alert
		return 0, w.outErr
	}
	n, err := w.out.Write(p)
	if err != nil {
		w.outErr = &wireError{fmt.Errorf("under TLS: %w", err)}
	}
	return n, w.outErr
}

// SetWriteDeadline limits the close_notify: tls.Conn.Close calls it, and no other.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.deadline.SetWriteDeadline(t)
	return nil
}

var _ stage.Stage = TLS{}
