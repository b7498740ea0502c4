package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/tlsstage"
)

// TLS holds the flags of a server that speaks TLS.
type TLS struct {
	TLSCert     string
	TLSKey      string
	TLSClientCA string
}

// defaultTLSLimit bounds the TLS handshake without --handshake-timeout. It is longer than
// the default idle timeout, so that a silent client ends as idle.
const defaultTLSLimit = 30 * time.Second

// Flags adds the flags.
func (t *TLS) Flags(f *cli.FlagSet) {
	g := f.Group("TLS")
	g.Add(cli.File(&t.TLSCert), "tls-cert", "", "Speak TLS (1.2 or 1.3) with all clients. `FILE` holds the server's certificate in PEM, followed by the intermediate certificates. The server reads this file and the files below again when they change.")
	g.Add(cli.File(&t.TLSKey), "tls-key", "", "Read the private key of the certificate from `FILE`, in PEM.")
	g.Add(cli.File(&t.TLSClientCA), "tls-client-ca", "", "Serve only clients with a certificate signed by one of the certificates in `FILE`.")
}

func (t *TLS) validate() error {
	if t.TLSClientCA != "" && t.TLSCert == "" {
		return cli.FlagError("tls-client-ca", errors.New("it needs --tls-cert and --tls-key"))
	}
	return cli.CertAndKey(t.TLSCert, t.TLSKey)
}

func (t *TLS) files() tlsstage.Files {
	return tlsstage.Files{Cert: t.TLSCert, Key: t.TLSKey, ClientCAs: t.TLSClientCA}
}

// stage returns the stage that speaks TLS, if the flags ask for it. limit bounds the
// handshake. It reports later errors of the files, and a certificate that is not valid
// now, to the user.
func (t *TLS) stage(limit time.Duration, r *reloader) (stage.Chain, error) {
	if t.TLSCert == "" {
		return nil, nil
	}
	certs, err := tlsstage.NewReloader(t.files(), cli.ComplainOf("certificates not reloaded"))
	if err != nil {
		return nil, fmt.Errorf("cannot speak TLS: %w", err)
	}
	t.complain(certs.Certificate())
	r.add(func() ([]any, error) {
		if err := certs.Reload(); err != nil {
			return nil, err
		}
		t.complain(certs.Certificate())
		return []any{certificate(certs.Certificate())}, nil
	})
	if limit <= 0 {
		limit = defaultTLSLimit
	}
	return stage.Chain{tlsstage.TLS{Config: certs.Config(&tls.Config{MinVersion: tls.VersionTLS12}), Limit: limit}}, nil
}

func (t *TLS) complain(cert *x509.Certificate) {
	if err := t.valid(cert, time.Now()); err != nil {
		cli.ComplainOf("certificate not valid")(err)
	}
}

// certificate describes a certificate for a log.
func certificate(cert *x509.Certificate) slog.Attr {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return slog.Group("certificate", "names", strings.Join(names, ","), "expires", cert.NotAfter)
}

// check returns an error if the files are wrong or the certificate is not valid now.
func (t *TLS) check() error {
	if t.TLSCert == "" {
		return nil
	}
	certs, err := tlsstage.NewReloader(t.files(), nil)
	if err != nil {
		return fmt.Errorf("cannot speak TLS: %w", err)
	}
	return t.valid(certs.Certificate(), time.Now())
}

// valid returns an error if the certificate is not valid at that time.
func (t *TLS) valid(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("the certificate %s has expired on %v: clients will refuse it", t.TLSCert, cert.NotAfter)
	case now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate %s is not valid before %v: clients will refuse it", t.TLSCert, cert.NotBefore)
	}
	return nil
}
