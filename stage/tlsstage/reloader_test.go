package tlsstage

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// pki is files of a Reloader, on disk.
type pki struct {
	Files
	t *testing.T
}

func newPKI(t *testing.T) *pki {
	dir := t.TempDir()
	return &pki{Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}, t}
}

func (p *pki) write(name string, b []byte) {
	p.t.Helper()
	// In place, as the worst of programs do it; with a time that no file had before,
	// whatever the filesystem's clock.
	if err := os.WriteFile(name, b, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.touch(name)
}

var ticks struct {
	sync.Mutex
	n time.Duration
}

func (p *pki) touch(name string) {
	p.t.Helper()
	ticks.Lock()
	defer ticks.Unlock()
	ticks.n++
	at := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).Add(ticks.n * time.Second)
	if err := os.Chtimes(name, at, at); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pki) replace(cert tls.Certificate) {
	p.t.Helper()
	p.write(p.Cert, pemOf(cert.Leaf))
	p.write(p.Key, pemOfKey(p.t, cert))
}

// served serves one client, and returns whom it found.
func served(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	s, c := memnet.Pair()
	var state tls.ConnectionState
	done := play(t, c, client, func(c *tls.Conn, nc net.Conn) error {
		if err := sends([]byte("payload"))(c, nc); err != nil {
			return err
		}
		state = c.ConnectionState()
		return nil
	})
	err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.Receive))
	cerr := <-done
	if (err == nil) != (cerr == nil) {
		t.Errorf("the server ended with %v, and the client with %v", err, cerr)
	}
	return state, err
}

func TestReloader(t *testing.T) {
	a := newAuthority(t)
	one, two := a.issue(t, "one"), a.issue(t, "two")
	client := &tls.Config{RootCAs: a.pool, InsecureSkipVerify: true}
	synctest.Test(t, func(t *testing.T) {
		p := newPKI(t)
		p.replace(one)
		var told []error
		r, err := NewReloader(p.Files, func(err error) { told = append(told, err) })
		if err != nil {
			t.Fatal(err)
		}
		config := r.Config(nil)
		finds := func(when, want string) {
			t.Helper()
			state, err := served(t, config, client)
			if err != nil {
				t.Errorf("%s: %v", when, err)
			} else if got := state.PeerCertificates[0].Subject.CommonName; got != want {
				t.Errorf("%s the client finds %s, want %s", when, got, want)
			}
		}
		tells := func(when string, want int) {
			t.Helper()
			if len(told) != want {
				t.Errorf("%s it has told of %d errors, want %d: %v", when, len(told), want, told)
			}
		}
		finds("at first", "one")
		p.replace(two)
		finds("within the second", "one")
		time.Sleep(checkInterval)
		finds("after a second", "two")
		tells("when all went well", 0)

		p.write(p.Cert, pemOf(one.Leaf))
		time.Sleep(checkInterval)
		finds("between the two files", "two")
		tells("then", 1)
		time.Sleep(checkInterval)
		finds("a second later", "two")
		tells("still", 1)
		p.write(p.Key, pemOfKey(t, one))
		time.Sleep(checkInterval)
		finds("when both are there", "one")
		tells("after that", 1)

		p.write(p.Cert, []byte("garbage"))
		time.Sleep(checkInterval)
		finds("with garbage", "one")
		tells("of garbage", 2)
		p.write(p.Cert, []byte("other garbage"))
		time.Sleep(checkInterval)
		finds("with other garbage", "one")
		tells("of other garbage", 3)
		if err := os.Remove(p.Cert); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(checkInterval)
			finds("without a file", "one")
		}
		tells("of the lack", 4)
		if !errors.Is(told[3], fs.ErrNotExist) {
			t.Errorf("without a file it tells: %v", told[3])
		}
		p.replace(two)
		time.Sleep(checkInterval)
		finds("in the end", "two")
		tells("in the end", 4)

		// Another file of the same size and time.
		fi, err := os.Stat(p.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.Cert+".new", make([]byte, fi.Size()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chtimes(p.Cert+".new", fi.ModTime(), fi.ModTime()), os.Rename(p.Cert+".new", p.Cert)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkInterval)
		finds("with another file", "two")
		tells("of another file", 5)

		// It is put right within one tick of the filesystem's clock.
		right := append(pemOf(one.Leaf), make([]byte, 1000)...)[:fi.Size()+500]
		p.write(p.Cert, make([]byte, len(right)))
		p.write(p.Key, pemOfKey(t, one))
		if fi, err = os.Stat(p.Cert); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkInterval)
		finds("with a file half written", "two")
		if err := errors.Join(os.WriteFile(p.Cert, right, 0o600), os.Chtimes(p.Cert, fi.ModTime(), fi.ModTime())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkInterval)
		finds("when all of it is there", "one")
		tells("in between", 6)
	})
}

// Reload does not wait for a second to pass, nor for a sign that something has changed.
func TestReload(t *testing.T) {
	a := newAuthority(t)
	one, two := a.issue(t, "one"), a.issue(t, "two")
	p := newPKI(t)
	p.replace(one)
	r, err := NewReloader(p.Files, func(err error) { t.Errorf("it tells of what Reload returns: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	p.replace(two)
	if err := r.Reload(); err != nil {
		t.Error(err)
	}
	client := &tls.Config{RootCAs: a.pool, ServerName: "two"}
	if _, err := served(t, r.Config(nil), client); err != nil {
		t.Error(err)
	}
	p.write(p.Key, pemOfKey(t, one))
	for range 2 {
		if r.Reload() == nil {
			t.Error("a certificate and another's key are right")
		}
	}
	if _, err := served(t, r.Config(nil), client); err != nil {
		t.Error(err)
	}
}

func TestFilesThatAreNotRight(t *testing.T) {
	a := newAuthority(t)
	for name, spoil := range map[string]func(p *pki){
		"no certificate": func(p *pki) { os.Remove(p.Cert) },
		"no key":         func(p *pki) { os.Remove(p.Key) },
		"another's key":  func(p *pki) { p.write(p.Key, pemOfKey(t, a.issue(t, "other"))) },
		"no authorities": func(p *pki) { p.ClientCAs = p.Cert + ".none" },
		"a key in place of authorities": func(p *pki) {
			p.ClientCAs = p.Key
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPKI(t)
			p.replace(a.issue(t, "server"))
			spoil(p)
			if _, err := NewReloader(p.Files, nil); err == nil {
				t.Error("they are right")
			}
		})
	}
}

// Who vouches for clients changes as well, and old tickets are of no use to those whose
// certificates are no longer good. To all others they are.
func TestClientAuthoritiesAreReloaded(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	for version, v := range versions {
		t.Run(version, func(t *testing.T) {
			p := newPKI(t)
			p.replace(a.issue(t, "server"))
			p.ClientCAs = filepath.Join(t.TempDir(), "clients.pem")
			p.write(p.ClientCAs, pemOf(a.cert))
			r, err := NewReloader(p.Files, nil)
			if err != nil {
				t.Fatal(err)
			}
			config := r.Config(&tls.Config{MinVersion: v, MaxVersion: v})
			client := func(by *authority) *tls.Config {
				cert := by.issue(t, "client")
				return &tls.Config{
					RootCAs: a.pool, ServerName: "server", ClientSessionCache: tls.NewLRUClientSessionCache(1),
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
				}
			}
			ofA, ofB := client(a), client(b)
			serves := func(who string, client *tls.Config, want error, resumes bool) {
				t.Helper()
				state, err := served(t, config, client)
				if !errors.Is(err, want) || (err == nil) != (want == nil) {
					t.Errorf("%s: ended with %v, want %v", who, err, want)
				}
				if err == nil && state.DidResume != resumes {
					t.Errorf("%s: resumed: %t", who, state.DidResume)
				}
			}
			serves("a's", ofA, nil, false)
			serves("a's again", ofA, nil, true)
			serves("b's", ofB, stage.ErrProtocol, false)

			p.replace(a.issue(t, "server"))
			if err := r.Reload(); err != nil {
				t.Fatal(err)
			}
			serves("a's after another certificate", ofA, nil, true)

			p.write(p.ClientCAs, pemOf(b.cert))
			if err := r.Reload(); err != nil {
				t.Fatal(err)
			}
			serves("b's after the change", ofB, nil, false)
			serves("a's after the change", ofA, stage.ErrProtocol, false)
		})
	}
}

func TestConfigKeepsWhatItIsGiven(t *testing.T) {
	a := newAuthority(t)
	p := newPKI(t)
	p.replace(a.issue(t, "server"))
	p.ClientCAs = filepath.Join(t.TempDir(), "clients.pem")
	p.write(p.ClientCAs, pemOf(a.cert))
	r, err := NewReloader(p.Files, nil)
	if err != nil {
		t.Fatal(err)
	}
	base := &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"x"}}
	client := &tls.Config{RootCAs: a.pool, ServerName: "server", NextProtos: []string{"x"}}
	config := r.Config(base)
	base.NextProtos = nil
	if state, err := served(t, config, client); err != nil || state.NegotiatedProtocol != "x" {
		t.Errorf("ended with %v, speaking %q", err, state.NegotiatedProtocol)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for a GetConfigForClient")
		}
	}()
	r.Config(config)
}

// Clients who come while files are replaced again and again are all served.
func TestReloadUnderLoad(t *testing.T) {
	a := newAuthority(t)
	pairs := []tls.Certificate{a.issue(t, "server"), a.issue(t, "server")}
	p := newPKI(t)
	p.replace(pairs[0])
	r, err := NewReloader(p.Files, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, client := r.Config(nil), &tls.Config{RootCAs: a.pool, ServerName: "server"}
	stop := make(chan struct{})
	var replacing, clients sync.WaitGroup
	replacing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				p.replace(pairs[i%2])
				r.mu.Lock()
				r.checked = time.Time{} // a second has passed
				r.mu.Unlock()
			}
		}
	})
	for range 4 {
		clients.Go(func() {
			for range 25 {
				if _, err := served(t, config, client); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	replacing.Wait()
}
