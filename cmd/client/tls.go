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

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage/send"
)

// secure holds the flags for TLS.
type secure struct {
	TLS           bool
	TLSCA         string
	TLSServerName string
	TLSCert       string
	TLSKey        string
}

// Flags adds the flags.
func (s *secure) Flags(f *cli.FlagSet) {
	g := f.Group("TLS")
	g.Add(cli.Bool(&s.TLS), "tls", "", "Speak TLS (1.2 or 1.3). The client always verifies the certificate of the server.")
	g.Add(cli.File(&s.TLSCA), "tls-ca", "", "Trust the certificates signed by one of the certificates in `FILE`, in PEM, instead of those of the system.")
	g.Add(cli.String(&s.TLSServerName), "tls-server-name", "", "Expect a certificate for the name or address `NAME` instead of HOST.")
	g.Add(cli.File(&s.TLSCert), "tls-cert", "", "Present the certificate in `FILE`, in PEM, followed by the intermediate certificates.")
	g.Add(cli.File(&s.TLSKey), "tls-key", "", "Read the private key of that certificate from `FILE`, in PEM.")
}

// Validate returns an error if the flags do not fit together.
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

// config returns the configuration for a server of that name; nil without --tls.
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
			return nil, fmt.Errorf("--tls-ca: no certificate in %s", s.TLSCA)
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

// encrypt performs the TLS handshake. It takes over conn, and returns it if config is nil.
func (p *program) encrypt(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return conn, nil
	}
	w := &wire{Conn: send.NewConn(conn, p.StallTimeout)} // a close now is a reset
	c := &tlsConn{tls.Client(w, config), w}
	within, cancel := context.WithTimeout(ctx, p.GreetingTimeout)
	defer cancel()
	err := c.HandshakeContext(within)
	if err == nil {
		return c, nil
	}
	w.Close()
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

// errTLS is an error of TLS rather than of the connection, such as an alert: the server
// may want another certificate.
var errTLS = errors.New("TLS failed")

// tlsConn marks errors of TLS with errTLS.
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

// wire is the connection under TLS. It keeps its own errors, to tell them from errors of
// TLS.
type wire struct {
	net.Conn

	mu       sync.Mutex
	readErr  error
	writeErr error
}

// NetConn returns the wrapped connection.
func (w *wire) NetConn() net.Conn { return w.Conn }

// Read reads encrypted bytes. The end of the stream is an error here: an orderly server
// sends close_notify first (RFC 8446, section 6.1), and crypto/tls tolerates its absence.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if err == io.EOF {
		err = fmt.Errorf("the server closed without close_notify of TLS: %w", io.ErrUnexpectedEOF)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readErr = err
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.writeErr = err
	}
	return n, err
}

// failed reports whether err is an error of this connection.
func (w *wire) failed(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.readErr != nil && errors.Is(err, w.readErr) || w.writeErr != nil && errors.Is(err, w.writeErr)
}
