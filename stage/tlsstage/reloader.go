package tlsstage

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files are the PEM files that a [Reloader] reads.
type Files struct {
	// Cert is the server's certificate, followed by those between it and a root, and Key
	// its private key.
	Cert, Key string

	// ClientCAs, if not empty, are the certificates of those who vouch for clients: each
	// client has to show a certificate that one of them has signed.
	ClientCAs string
}

// Reloader is what is in [Files], also when they are replaced while a server runs. It
// looks for changes when clients come, at most once a second, and has no goroutine: a
// file has changed if another file has its name, or if its size or time of modification
// is another. What is in the files is taken up if it is right as a whole. Until then,
// as in between when one of a pair has been replaced and the other has not, clients are
// served by what was right last.
//
// It is safe for concurrent use.
type Reloader struct {
	files   Files
	onError func(error)
	present atomic.Pointer[material]

	mu     sync.Mutex // held while the files are looked at
	looked time.Time
	seen   [3]stamp
	broken bool // what was seen was not right
}

// lookInterval is how often the files are looked at, at the most.
const lookInterval = time.Second

// material is the content of files that was right.
type material struct {
	cert      tls.Certificate
	clientCAs *x509.CertPool // nil if clients need no certificate
}

// NewReloader reads the files; it fails if they are not right now. When they are not
// later, onError, unless it is nil, is told once for each state in which they are found,
// by the goroutine that serves the client who came.
func NewReloader(files Files, onError func(error)) (*Reloader, error) {
	r := &Reloader{files: files, onError: onError}
	if err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the files now, whether they have changed or not. If they are not right it
// says why, and what was right last stays.
func (r *Reloader) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Now()
	return r.read(r.files.stamps())
}

// Certificate returns the server's certificate that is in use: what was right last. It is
// not to be changed.
func (r *Reloader) Certificate() *x509.Certificate { return r.present.Load().cert.Leaf }

// look reads the files if it is time to, and they have changed or were not right. A
// client does not wait while that is done for another.
func (r *Reloader) look() {
	if !r.mu.TryLock() {
		return
	}
	err := r.lookLocked()
	r.mu.Unlock()
	if err != nil && r.onError != nil {
		r.onError(err)
	}
}

// lookLocked returns an error that has not been told.
func (r *Reloader) lookLocked() error {
	now := time.Now()
	if now.Sub(r.looked) < lookInterval {
		return nil
	}
	r.looked = now
	stamps := r.files.stamps()
	same := true
	for i, s := range stamps {
		same = same && s.same(r.seen[i])
	}
	if same && !r.broken {
		return nil
	}
	told := same
	// Those that were not right are read again even if they look the same: they may have
	// been written to while they were read, within one tick of the filesystem's clock.
	if err := r.read(stamps); err != nil && !told {
		return err
	}
	return nil
}

// read takes up what is in the files, which had these stamps before.
func (r *Reloader) read(stamps [3]stamp) error {
	m, err := r.files.read()
	r.seen, r.broken = stamps, err != nil
	if err == nil {
		r.present.Store(m)
	}
	return err
}

// Config returns a configuration for [TLS], or any server, that is base (nil: the zero
// one) but for the certificates, which are those in the files at each handshake: it has
// no others. If there is a file of ClientCAs, clients have to show a certificate, unless
// base.ClientAuth says otherwise. base must have no GetConfigForClient.
//
// Sessions are resumed by tickets of before a change as well, but not those of clients
// whose certificate the new ClientCAs do not vouch for.
func (r *Reloader) Config(base *tls.Config) *tls.Config {
	if base == nil {
		base = new(tls.Config)
	}
	if base.GetConfigForClient != nil {
		panic("tlsstage: GetConfigForClient beside that of a Reloader")
	}
	type made struct {
		of     *material
		config *tls.Config
	}
	var last atomic.Pointer[made]
	base = base.Clone() // it stays as it is now
	outer := base.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		r.look()
		m := r.present.Load()
		if l := last.Load(); l != nil && l.of == m {
			return l.config, nil
		}
		config := m.configure(base.Clone())
		last.Store(&made{m, config})
		return config, nil
	}
	return outer
}

// configure puts m into config.
func (m *material) configure(config *tls.Config) *tls.Config {
	config.Certificates = []tls.Certificate{m.cert}
	config.GetCertificate = nil
	if m.clientCAs != nil {
		config.ClientCAs = m.clientCAs
		if config.ClientAuth == tls.NoClientCert {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return config
}

func (f Files) read() (*material, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	m := &material{cert: cert}
	if f.ClientCAs == "" {
		return m, nil
	}
	pem, err := os.ReadFile(f.ClientCAs)
	if err != nil {
		return nil, fmt.Errorf("certificates of who vouches for clients: %w", err)
	}
	m.clientCAs = x509.NewCertPool()
	if !m.clientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates of who vouches for clients: %s: %w", f.ClientCAs, errNone)
	}
	return m, nil
}

var errNone = errors.New("there is none")

// stamp is what is known of a file without reading it; nil if nothing is.
type stamp struct{ os.FileInfo }

func (f Files) stamps() (all [3]stamp) {
	for i, name := range []string{f.Cert, f.Key, f.ClientCAs} {
		if fi, err := os.Stat(name); err == nil {
			all[i] = stamp{fi}
		}
	}
	return all
}

func (s stamp) same(o stamp) bool {
	if s.FileInfo == nil || o.FileInfo == nil {
		return s.FileInfo == nil && o.FileInfo == nil
	}
	return os.SameFile(s.FileInfo, o.FileInfo) && s.Size() == o.Size() && s.ModTime().Equal(o.ModTime())
}
