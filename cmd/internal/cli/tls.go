package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/tlsstage"
)

// TLS are the flags of a server that speaks TLS, to be embedded in its Command.
type TLS struct {
	TLSCert     string `name:"tls-cert" path:"file" group:"TLS:" placeholder:"FILE" help:"Speak TLS (1.2 or 1.3) with all clients. FILE is the server's certificate in PEM, followed by those between it and a root. It, and the files below, are read again when they have changed."`
	TLSKey      string `name:"tls-key" path:"file" group:"TLS:" placeholder:"FILE" help:"The private key of the certificate, in PEM."`
	TLSClientCA string `name:"tls-client-ca" path:"file" group:"TLS:" placeholder:"FILE" help:"Serve those clients only that have a certificate which one of the certificates in FILE has signed."`
}

// defaultTLSLimit is how long a handshake of TLS may take if nothing is said of
// handshakes. It is more than the usual limit of silence, which is told as silence.
const defaultTLSLimit = 30 * time.Second

// ValidateTLS returns an error if the flags do not go together.
func (t *TLS) ValidateTLS() error {
	if err := CertAndKey(t.TLSCert, t.TLSKey); err != nil {
		return err
	}
	if t.TLSClientCA != "" && t.TLSCert == "" {
		return FlagError("tls-client-ca", errors.New("it needs --tls-cert and --tls-key, since only who speaks TLS has a certificate"))
	}
	return nil
}

// CertAndKey returns an error if only one of --tls-cert and --tls-key is set.
func CertAndKey(cert, key string) error {
	switch {
	case cert != "" && key == "":
		return FlagError("tls-cert", errors.New("it needs --tls-key, which is its private key"))
	case key != "" && cert == "":
		return FlagError("tls-key", errors.New("it needs --tls-cert, which it is the private key of"))
	}
	return nil
}

func (t *TLS) files() tlsstage.Files {
	return tlsstage.Files{Cert: t.TLSCert, Key: t.TLSKey, ClientCAs: t.TLSClientCA}
}

// Stage speaks TLS, if the flags say so. Its handshake may take as long as limit says; 0
// means half a minute. An error says what is wrong with the files; if they are wrong
// later, the user is told, as also if the certificate is not valid now, since that is for
// clients to judge. A SIGHUP has the files read again at once.
func (t *TLS) Stage(limit time.Duration, reload *Reloader) (stage.Chain, error) {
	if t.TLSCert == "" {
		return nil, nil
	}
	certs, err := tlsstage.NewReloader(t.files(), ComplainOf("certificates not reloaded"))
	if err != nil {
		return nil, fmt.Errorf("cannot speak TLS: %w", err)
	}
	reload.OnReload(func() ([]any, error) {
		if err := certs.Reload(); err != nil {
			return nil, err
		}
		t.complain(certs.Certificate())
		return []any{certificate(certs.Certificate())}, nil
	})
	t.complain(certs.Certificate())
	if limit <= 0 {
		limit = defaultTLSLimit
	}
	return stage.Chain{tlsstage.TLS{Config: certs.Config(&tls.Config{MinVersion: tls.VersionTLS12}), Limit: limit}}, nil
}

// complain tells the user if the certificate is not valid now.
func (t *TLS) complain(cert *x509.Certificate) {
	if err := t.expired(cert, time.Now()); err != nil {
		ComplainOf("certificate not valid")(err)
	}
}

// certificate is for whom one is and until when, for a log.
func certificate(cert *x509.Certificate) slog.Attr {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return slog.Group("certificate", "names", strings.Join(names, ","), "expires", cert.NotAfter)
}

// CheckTLS says whether the files are right, and the certificate valid now.
func (t *TLS) CheckTLS() error {
	if t.TLSCert == "" {
		return nil
	}
	certs, err := tlsstage.NewReloader(t.files(), nil)
	if err != nil {
		return fmt.Errorf("cannot speak TLS: %w", err)
	}
	return t.expired(certs.Certificate(), time.Now())
}

// expired returns an error if the certificate is not valid at that time.
func (t *TLS) expired(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("the certificate %s has expired on %v: clients will refuse it", t.TLSCert, cert.NotAfter)
	case now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate %s is not valid before %v: clients will refuse it", t.TLSCert, cert.NotBefore)
	}
	return nil
}
