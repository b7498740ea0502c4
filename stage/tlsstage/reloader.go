package tlsstage

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Files names the PEM files that a [Reloader] reads.
type Files struct {
	// Cert has the certificate of the server, followed by its intermediates. Key has the
	// private key.
	Cert, Key string

	// ClientCAs, if not empty, has the CA certificates for clients: each client must show a
	// certificate signed by one of them.
	ClientCAs string
}

// Reloader holds the content of [Files], and reads them again when they change. It checks
// them when clients connect, at most once a second, and has no goroutine. A changed file is
// another file of that name, or has another size or modification time. Reloader uses new
// content only if all files are valid together. Until then, as while only one file of a pair
// is replaced, clients get the last valid content.
//
// It is safe for concurrent use.
type Reloader struct {
	files   Files
	onError func(error)
	current atomic.Pointer[content]

	mu      sync.Mutex // held during a check
	checked time.Time
	seen    [3]os.FileInfo
	invalid bool // the files that were seen
}

// checkInterval is the minimum time between two checks of the files.
const checkInterval = time.Second

// content is the valid content of the files.
type content struct {
	cert      tls.Certificate
	clientCAs *x509.CertPool // nil if clients need no certificate
}

// NewReloader reads the files, and fails if they are invalid. If they become invalid later,
// the goroutine that serves a client calls onError, unless it is nil, once for each state of
// the files.
func NewReloader(files Files, onError func(error)) (*Reloader, error) {
	r := &Reloader{files: files, onError: onError}
	if err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the files now, even if they have not changed. If they are invalid, it returns
// the reason, and the last valid content stays in use.
func (r *Reloader) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked = time.Now()
	return r.read(r.files.stat())
}

// Certificate returns the certificate of the server that is in use. The caller must not
// change it.
func (r *Reloader) Certificate() *x509.Certificate { return r.current.Load().cert.Leaf }

// check reads the files if they have changed, unless another goroutine does so now. It
// reports each state of the files once.
func (r *Reloader) check() {
	if !r.mu.TryLock() {
		return
	}
	var err error
	if now := time.Now(); now.Sub(r.checked) >= checkInterval {
		r.checked = now
		seen := r.files.stat()
		if !slices.EqualFunc(seen[:], r.seen[:], sameFile) {
			err = r.read(seen)
		} else if r.invalid {
			// A write during the last read, within one tick of the clock of the filesystem,
			// leaves the same state.
			r.read(seen)
		}
	}
	r.mu.Unlock()
	if err != nil && r.onError != nil {
		r.onError(err)
	}
}

// read reads the files, which were seen before.
func (r *Reloader) read(seen [3]os.FileInfo) error {
	c, err := r.files.read()
	r.seen, r.invalid = seen, err != nil
	if err == nil {
		r.current.Store(c)
	}
	return err
}

// Config returns a copy of base, for [TLS] or any server, with the certificates of the files
// at each handshake, and no others. A nil base means the zero value. With ClientCAs, clients
// must show a certificate, unless base.ClientAuth is set. Config panics if base has a
// GetConfigForClient.
//
// A client can resume a session from before a change, unless the new ClientCAs do not verify
// its certificate.
func (r *Reloader) Config(base *tls.Config) *tls.Config {
	if base == nil {
		base = new(tls.Config)
	}
	if base.GetConfigForClient != nil {
		panic("tlsstage: Reloader.Config with a GetConfigForClient")
	}
	base = base.Clone() // the caller may change it
	outer := base.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		r.check()
		return r.current.Load().configure(base.Clone()), nil
	}
	return outer
}

// configure sets the certificates of config.
func (c *content) configure(config *tls.Config) *tls.Config {
	config.Certificates = []tls.Certificate{c.cert}
	config.GetCertificate = nil
	if c.clientCAs != nil {
		config.ClientCAs = c.clientCAs
		if config.ClientAuth == tls.NoClientCert {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return config
}

func (f Files) read() (*content, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	c := &content{cert: cert}
	if f.ClientCAs == "" {
		return c, nil
	}
	pem, err := os.ReadFile(f.ClientCAs)
	if err != nil {
		return nil, fmt.Errorf("load client CAs: %w", err)
	}
	c.clientCAs = x509.NewCertPool()
	if !c.clientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load client CAs from %s: no certificate found", f.ClientCAs)
	}
	return c, nil
}

// stat returns the state of the files, nil for each that fails.
func (f Files) stat() (all [3]os.FileInfo) {
	for i, name := range []string{f.Cert, f.Key, f.ClientCAs} {
		all[i], _ = os.Stat(name)
	}
	return all
}

// sameFile reports whether a file has not changed from a to b.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
