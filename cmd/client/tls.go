package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
)

// secure are the flags of TLS.
type secure struct {
	TLS           bool   `name:"tls" group:"TLS:" help:"Speak TLS (1.2 or 1.3). The server's certificate is always verified."`
	TLSCA         string `name:"tls-ca" path:"file" group:"TLS:" placeholder:"FILE" help:"Trust the server's certificate if one of the certificates in FILE, in PEM, has signed it, instead of one of the system's."`
	TLSServerName string `name:"tls-server-name" group:"TLS:" placeholder:"NAME" help:"Name, or address, that the server's certificate is to be for, instead of HOST."`
	TLSCert       string `name:"tls-cert" path:"file" group:"TLS:" placeholder:"FILE" help:"Certificate to show to the server, in PEM, followed by those between it and a root."`
	TLSKey        string `name:"tls-key" path:"file" group:"TLS:" placeholder:"FILE" help:"The private key of that certificate, in PEM."`
}

// Validate returns an error if the flags do not go together.
func (p *program) Validate() error {
	s := &p.secure
	for _, f := range []struct{ name, value string }{
		{"tls-ca", s.TLSCA}, {"tls-server-name", s.TLSServerName}, {"tls-cert", s.TLSCert}, {"tls-key", s.TLSKey},
	} {
		if f.value != "" && !s.TLS {
			return cli.FlagError(f.name, errors.New("it needs --tls"))
		}
	}
	return cli.CertAndKey(s.TLSCert, s.TLSKey)
}

// config is what the flags say, of a server of that name; nil without --tls.
func (s *secure) config(host string) (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if ip, err := netip.ParseAddr(host); err == nil {
		config.ServerName = ip.WithZone("").String()
	}
	if s.TLSServerName != "" {
		config.ServerName = s.TLSServerName
	}
	if s.TLSCA != "" {
		pem, err := os.ReadFile(s.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: there is no certificate in %s", s.TLSCA)
		}
	}
	if s.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert %s with --tls-key %s: %w", s.TLSCert, s.TLSKey, err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

// encrypt has conn, which becomes its own, speak TLS; nothing is done if config is nil.
func (p *program) encrypt(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return conn, nil
	}
	under, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a %T cannot speak TLS", conn)
	}
	under.SetLinger(0) // until there is something that an orderly close could confirm
	w := newWire(under, p.StallTimeout)
	c := &tlsConn{tls.Client(w, config), w}
	within, cancel := context.WithTimeout(ctx, p.GreetingTimeout)
	defer cancel()
	err := c.HandshakeContext(within)
	if err == nil {
		return c, nil
	}
	under.Close()
	server := p.server(conn)
	var untrusted *tls.CertificateVerificationError
	var foreign tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: stopped in the handshake of TLS; nothing was sent", server)
	case within.Err() != nil:
		return nil, cli.Exit(exitServer, fmt.Errorf("%s: no handshake of TLS within %v; does the server speak TLS, and has it a place free?", server, p.GreetingTimeout))
	case errors.As(err, &untrusted):
		return nil, cli.Exit(exitConnect, fmt.Errorf("%s: the server's certificate is not trusted: %w; is --tls-ca right, and --tls-server-name?", server, untrusted.Err))
	case errors.As(err, &foreign):
		return nil, cli.Exit(exitServer, fmt.Errorf("%s: %w; does the server speak TLS?", server, err))
	case w.failed(err):
		return nil, cli.Exit(exitBroken, fmt.Errorf("%s: in the handshake of TLS: %w; does the server speak TLS?", server, err))
	}
	return nil, cli.Exit(exitConnect, fmt.Errorf("%s: in the handshake of TLS: %w; does the server want another certificate (--tls-cert)?", server, err))
}

// errTLS is what goes wrong with TLS, rather than with the connection under it: an alert
// of the server's, say, which may want another certificate.
var errTLS = errors.New("TLS failed")

// tlsConn is a connection that says so of errors.
type tlsConn struct {
	*tls.Conn
	wire *wire
}

func (c *tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.explain(err)
}

func (c *tlsConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

func (c *tlsConn) explain(err error) error {
	if err == nil || err == io.EOF || c.wire.failed(err) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", errTLS, err)
}

// wire is the connection under that of TLS. The limit of how long the server may take no
// byte is kept here: a write of TLS that a deadline has cut short can be neither told from
// one that has not begun, nor tried again.
type wire struct {
	net.Conn
	out *stage.Writer

	mu       sync.Mutex
	ended    bool  // no write is to wait any longer
	readErr  error // by which the direction has failed for good
	writeErr error
}

func newWire(conn *net.TCPConn, stall time.Duration) *wire {
	w := &wire{Conn: conn}
	w.out = stage.NewWriter(conn, wireGate{stage.NewStallGate(stallConn{conn, w}, stall), w})
	return w
}

// NetConn returns the connection, which is the system's.
func (w *wire) NetConn() net.Conn { return w.Conn }

// Read reads what is encrypted. The end of the stream is no end here but a fault: who
// ends it in an orderly way says so within TLS (RFC 8446, section 6.1), and package
// crypto/tls would overlook that nobody has.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if err == io.EOF {
		err = fmt.Errorf("it closed without a word of TLS (close_notify): %w", io.ErrUnexpectedEOF)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readErr = err
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.writeErr = err
	}
	return n, err
}

// failed reports whether err is one of this connection's own.
func (w *wire) failed(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.readErr != nil && errors.Is(err, w.readErr) || w.writeErr != nil && errors.Is(err, w.writeErr)
}

func (w *wire) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

// SetWriteDeadline ends writes if t has passed, for good. What is in the future is what
// the limit of this connection is for.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if t.IsZero() || t.After(time.Now()) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	return w.Conn.SetWriteDeadline(t)
}

// stallConn is the connection with the write deadline of its limit.
type stallConn struct {
	*net.TCPConn
	wire *wire
}

func (c stallConn) SetWriteDeadline(t time.Time) error {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if c.wire.ended {
		return nil
	}
	return c.TCPConn.SetWriteDeadline(t)
}

// wireGate keeps the limit, and does not try again what has been ended.
type wireGate struct {
	*stage.StallGate
	wire *wire
}

func (g wireGate) Passed(n int, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		g.wire.mu.Lock()
		ended := g.wire.ended
		g.wire.mu.Unlock()
		if ended {
			return net.ErrClosed
		}
	}
	return g.StallGate.Passed(n, err)
}
