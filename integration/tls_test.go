//go:build linux

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority vouches for servers and clients.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  *directory
}

// newAuthority returns one whose own certificate is in ca.pem of a directory, where those
// that it issues will be.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: newDirectory(t)}
	template := certificate("authority", time.Hour)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert, a.key = a.sign(template)
	a.dir.put("ca.pem", pemOf("CERTIFICATE", a.cert.Raw))
	return a
}

// certificate is a template of one for this machine, which is valid for so long from now.
func certificate(name string, valid time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// sign makes a certificate, by itself if it is the first, and its key.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(a.t, err)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	check(a.t, err)
	cert, err := x509.ParseCertificate(der)
	check(a.t, err)
	return cert, key
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// issue puts a certificate and its key into NAME.pem and NAME.key.
func (a *authority) issue(name string, valid time.Duration) {
	a.t.Helper()
	cert, key := a.sign(certificate(name, valid))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(a.t, err)
	a.dir.put(name+".pem", pemOf("CERTIFICATE", cert.Raw))
	a.dir.put(name+".key", pemOf("PRIVATE KEY", der))
}

// show are the flags that show a certificate, of the servers and of the client.
func (a *authority) show(name string) []string {
	return []string{"--tls-cert=" + a.dir.join(name+".pem"), "--tls-key=" + a.dir.join(name+".key")}
}

// trust are the flags of a client that trusts it.
func (a *authority) trust() []string { return []string{"--tls", "--tls-ca=" + a.dir.join("ca.pem")} }

// pool is for clients and servers of the test.
func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// to is the address of a server of this machine.
func to(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }

// fails checks that the client ends with that exit code, and what it says.
func (p *program) fails(code int, says ...string) {
	p.t.Helper()
	if got := p.exit(); got != code {
		p.t.Errorf("exit code %d; want %d", got, code)
	}
	said := p.complaint()
	for _, words := range says {
		if !strings.Contains(said, words) {
			p.t.Errorf("on standard error: %q, without %q", said, words)
		}
	}
	p.silent()
}

// payloadFile is a file with so many bytes that are not all the same, and these.
func payloadFile(t *testing.T, n int) (name, payload string) {
	t.Helper()
	dir := newDirectory(t)
	payload = strings.Repeat(everyByte, n/len(everyByte)+1)[:n]
	dir.put("payload", payload)
	return dir.join("payload"), payload
}

func TestTLS(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		a := newAuthority(t)
		a.issue("server", time.Hour)
		s := serve(t, program, with(a.show("server")...))
		for _, size := range []int{0, 1, 100_000, 8 << 20} {
			name, payload := payloadFile(t, size)
			sendFile(t, launch{}, to(s.port), append(a.trust(), name)...).succeeds()
			s.outcome(received(payload))
		}
		name, _ := payloadFile(t, 5)
		for _, tt := range []struct {
			args []string
			code int
			says string
		}{
			{[]string{"--greeting-timeout=100ms"}, 5, "does it want TLS (--tls)?"},
			{[]string{"--tls"}, 4, "not trusted"},
			{append(a.trust(), "--tls-server-name=example.org"), 4, "example.org"},
			{newAuthority(t).trust(), 4, "not trusted"},
		} {
			sendFile(t, launch{}, to(s.port), append(tt.args, name)...).fails(tt.code, "127.0.0.1:", tt.says)
			s.outcome(failed)
		}
		// By other names.
		check(t, a.client(s.port, "localhost").half().finish("by name"))
		s.outcome(received("by name"))
		// Whoever speaks no TLS is told so by an alert, and a reset.
		c := s.connect().send(header)
		if end, err := c.endedAfterAlert(); err != nil || end != rst {
			t.Errorf("a client without TLS sees %s, %v", end, err)
		}
		s.outcome(failed)
		// What is cut is not the whole.
		cut := a.client(s.port, "localhost").half()
		cut.send("part")
		check(t, cut.wire.CloseWrite())
		if err := cut.end(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a client that is cut sees %v", err)
		}
		s.outcome(failed)
		s.stop()
	})
}

// endedAfterAlert waits until the server closes, and takes an alert of TLS before.
func (c *client) endedAfterAlert() (ending, error) {
	for c.err == nil {
		got, err := c.read(patience)
		if len(got) > 0 && got[0] == 21 && err == nil { // RFC 8446, section 5.1
			continue
		}
		if errors.Is(err, syscall.ECONNRESET) {
			return rst, nil
		}
		if err == io.EOF {
			return fin, nil
		}
		return "", fmt.Errorf("got %q, %v", got, err)
	}
	return "", c.err
}

// tlsClient is a client of the test's that speaks TLS.
type tlsClient struct {
	*tls.Conn
	wire *net.TCPConn
	t    *testing.T
}

func (a *authority) client(port int, name string) *tlsClient {
	a.t.Helper()
	c := connect(port).must(a.t)
	c.conn.SetDeadline(time.Now().Add(patience))
	a.t.Cleanup(func() { c.conn.Close() })
	return &tlsClient{tls.Client(c.conn, &tls.Config{RootCAs: a.pool(), ServerName: name}), c.conn, a.t}
}

// half speaks the client's half of the protocol.
func (c *tlsClient) half() *tlsClient {
	c.t.Helper()
	for _, word := range []string{confirm, again} {
		got := make([]byte, len(greeting))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != greeting {
			c.t.Fatalf("got %q, %v", got, err)
		}
		c.send(word)
	}
	return c
}

func (c *tlsClient) send(s string) {
	c.t.Helper()
	_, err := io.WriteString(c, s)
	check(c.t, err)
}

// end waits for the server's word: nil is its close_notify.
func (c *tlsClient) end() error {
	_, err := io.Copy(io.Discard, c)
	return err
}

func (c *tlsClient) finish(payload string) error {
	c.send(payload)
	return errors.Join(c.CloseWrite(), c.end())
}

func TestClientCertificates(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		a, stranger := newAuthority(t), newAuthority(t)
		a.issue("server", time.Hour)
		a.issue("me", time.Hour)
		a.issue("old", -time.Minute)
		stranger.issue("me", time.Hour)
		s := serve(t, program, with(append(a.show("server"), "--tls-client-ca="+a.dir.join("ca.pem"))...))
		name, payload := payloadFile(t, 100_000)
		sendFile(t, launch{}, to(s.port), append(append(a.trust(), a.show("me")...), name)...).succeeds()
		s.outcome(received(payload))
		for who, flags := range map[string][]string{"nobody": nil, "a stranger": stranger.show("me"), "who has expired": a.show("old")} {
			t.Log(who)
			sendFile(t, launch{}, to(s.port), append(append(a.trust(), flags...), name)...).fails(4, "127.0.0.1:", "certificate", "--tls-cert")
			s.outcome(failed)
		}
		s.stop()
	})
}

func TestACertificateIsReplaced(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		a, next := newAuthority(t), newAuthority(t)
		a.issue("server", time.Hour)
		next.issue("server", time.Hour)
		s := serve(t, program, with(a.show("server")...))
		if program == "server" {
			before := a.client(s.port, "localhost").half() // goes on
			s.replaceCertificate(a, next)
			check(t, before.finish("before"))
			s.dir.holdsAt("1.file", "before")
		} else {
			s.replaceCertificate(a, next)
		}
		for _, line := range s.quit() {
			if !strings.HasPrefix(line, "ERROR: load certificate ") { // of when half of the pair was there
				t.Errorf("on standard error: %q", line)
			}
		}
	})
}

// replaceCertificate replaces the certificate by one that is not right, and then by one
// of another authority.
func (s *service) replaceCertificate(a, next *authority) {
	s.t.Helper()
	a.dir.put("server.pem", "nonsense")
	told := make(chan string, 1)
	go func() {
		line, _ := s.stderr.next(patience)
		told <- line
	}()
	// It looks once a second, when a client comes.
	for line := ""; line == ""; {
		check(s.t, a.client(s.port, "localhost").half().finish("still"))
		select {
		case line = <-told:
			if !strings.HasPrefix(line, "ERROR: load certificate ") || !strings.Contains(line, a.dir.join("server.pem")) {
				s.t.Errorf("on standard error: %q", line)
			}
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, name := range []string{"server.pem", "server.key"} {
		content, err := os.ReadFile(next.dir.join(name))
		check(s.t, err)
		a.dir.put(name+".new", string(content))
		check(s.t, os.Rename(a.dir.join(name+".new"), a.dir.join(name)))
	}
	if !poll(func() bool {
		c := next.client(s.port, "localhost")
		defer c.Close()
		if c.Handshake() != nil {
			return false
		}
		check(s.t, c.half().finish("new"))
		return true
	}) {
		s.t.Error("the new certificate is not taken up")
	}
}

// A SIGHUP has a certificate taken up at once, and the log says which.
func TestACertificateIsReadAgain(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		a, next := newAuthority(t), newAuthority(t)
		a.issue("server", time.Hour)
		next.issue("server", 2*time.Hour)
		s := serve(t, program, with(a.show("server")...), with("--log-level=info", "--log-format=json"))
		has(t, s.record(), map[string]any{"msg": "listening"})
		for _, name := range []string{"server.pem", "server.key"} {
			content, err := os.ReadFile(next.dir.join(name))
			check(t, err)
			a.dir.put(name, string(content))
		}
		s.signal(syscall.SIGHUP)
		r := s.record()
		pair, err := tls.LoadX509KeyPair(next.dir.join("server.pem"), next.dir.join("server.key"))
		check(t, err)
		has(t, r, map[string]any{"level": "INFO", "msg": "reloaded", "certificate": map[string]any{
			"names": "localhost,127.0.0.1", "expires": pair.Leaf.NotAfter.Format(time.RFC3339)}})
		check(t, next.client(s.port, "localhost").half().finish("new"))
		s.outcome(received("new"))
		has(t, s.record(), map[string]any{"msg": "connection ended"})

		a.dir.put("server.pem", "nonsense")
		s.signal(syscall.SIGHUP)
		r = s.record()
		has(t, r, map[string]any{"level": "ERROR", "msg": "not reloaded"})
		if cause := fmt.Sprint(r["cause"]); !strings.HasPrefix(cause, "load certificate "+a.dir.join("server.pem")) {
			t.Errorf("the cause is %q", cause)
		}
		check(t, next.client(s.port, "localhost").half().finish("still"))
		s.outcome(received("still"))
		has(t, s.record(), map[string]any{"msg": "connection ended"})

		a.issue("server", -time.Minute)
		s.signal(syscall.SIGHUP)
		has(t, s.record(), map[string]any{"level": "ERROR", "msg": "certificate not valid"})
		has(t, s.record(), map[string]any{"level": "INFO", "msg": "reloaded"})
		s.quit()
	})
}

func TestCertificatesThatAreWrong(t *testing.T) {
	busy(t)
	a, other := newAuthority(t), newAuthority(t)
	for name, valid := range map[string]time.Duration{"server": time.Hour, "expired": -time.Minute} {
		a.issue(name, valid)
	}
	other.issue("server", time.Hour)
	a.dir.put("nonsense.pem", "nonsense")
	a.dir.put("nonsense.key", "nonsense")
	for program, args := range map[string][]string{"server-s": {strconv.Itoa(freePort(t))}, "server": {strconv.Itoa(freePort(t)), t.TempDir()}} {
		t.Run(program, func(t *testing.T) {
			for _, tt := range []struct {
				flags []string
				code  int
				says  []string
			}{
				{a.show("server")[:1], 2, []string{"--tls-key"}},
				{a.show("server")[1:], 2, []string{"--tls-cert"}},
				{[]string{"--tls-client-ca=" + a.dir.join("ca.pem")}, 2, []string{"--tls-client-ca", "--tls-cert"}},
				{a.show("nonsense"), 1, []string{"nonsense.pem"}},
				{a.show("missing"), 1, []string{"missing.pem", "no such file"}},
				{[]string{a.show("server")[0], other.show("server")[1]}, 1, []string{"server.pem", "private key"}},
				{append(a.show("server"), "--tls-client-ca="+a.dir.join("nonsense.pem")), 1, []string{"nonsense.pem"}},
			} {
				l := launch{program: program, args: append(args[:len(args):len(args)], tt.flags...), plain: true}
				refuse(t, l, tt.code, tt.says...)
				l.args = append(l.args, "--check")
				refuse(t, l, tt.code, tt.says...)
			}
			refuse(t, launch{program: program, args: append(append(args[:len(args):len(args)], a.show("expired")...), "--check"), plain: true}, 1, "expired.pem", "has expired")
			if said := prints(t, program, append(append(args[:len(args):len(args)], a.show("server")...), "--check", "--tls-client-ca="+a.dir.join("ca.pem"))...); said != program+fine {
				t.Errorf("it says %q", said)
			}
		})
	}
	for _, half := range a.show("server") {
		refuse(t, launch{program: "client", args: []string{"localhost", "1", "file", "--tls", half}, plain: true}, 2, "it needs --tls-")
	}
	// A server goes on with one that has expired, but says so.
	s := serve(t, "server-s", with(a.show("expired")...))
	if said := s.complaint(); !strings.Contains(said, "has expired") {
		t.Errorf("on standard error: %q", said)
	}
	name, _ := payloadFile(t, 5)
	sendFile(t, launch{}, to(s.port), append(a.trust(), name)...).fails(4, "expired")
	s.stop(failed)

	refuse(t, launch{program: "client", args: append([]string{"localhost", "54321", name, "--tls"}, a.show("nonsense")...), plain: true}, 2, "nonsense.pem")
	refuse(t, launch{program: "client", args: []string{"localhost", "54321", name, "--tls", "--tls-ca=" + a.dir.join("nonsense.pem")}, plain: true}, 2, "nonsense.pem")
	refuse(t, launch{program: "client", args: []string{"localhost", "54321", name, "--tls", "--tls-ca=/no/such/file"}, plain: true}, 2, "no such file")
}

// The limits of silence and of the handshake hold for that of TLS as well.
func TestSilenceInTheHandshakeOfTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", time.Hour)
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with(append(a.show("server"), "--idle-timeout=1s")...))
		takes(t, time.Second, func() error { return s.connect().fin() })
		s.outcome(failed)
		name, _ := payloadFile(t, 5)
		sendFile(t, launch{}, to(s.port), name).fails(5, "does it want TLS (--tls)?")
		s.outcome(failed)
		takes(t, time.Second, func() error { return s.connect().send("\x16\x03\x01").fin() })
		s.outcome(failed)
		takes(t, time.Second, func() error { return a.client(s.port, "localhost").half().end() }) // orderly: it has not ended its stream
		s.stop(failed)

		s = serve(t, program, with(append(a.show("server"), "--handshake-timeout=1s")...))
		takes(t, time.Second, func() error {
			return s.connect().drip(200*time.Millisecond, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").rst()
		})
		s.stop(failed)
	})
}

// What the client makes of servers that speak TLS.
func TestTheClientTellsWhatWentWrongWithTLS(t *testing.T) {
	t.Parallel()
	const limit = "300ms"
	a := newAuthority(t)
	a.issue("server", time.Hour)
	pair, err := tls.LoadX509KeyPair(a.dir.join("server.pem"), a.dir.join("server.key"))
	check(t, err)
	small, _ := payloadFile(t, 5)
	large, _ := payloadFile(t, 64<<20)
	for _, tt := range []struct {
		name   string
		file   string // "": the small one
		flags  []string
		script func(c *tls.Conn, wire *net.TCPConn)
		code   int // 0: it succeeds
		says   []string
	}{
		{name: "as it should be", script: func(c *tls.Conn, wire *net.TCPConn) { askTLS(c); io.Copy(io.Discard, c); c.Close() }},
		{name: "TLS 1.2", script: func(c *tls.Conn, wire *net.TCPConn) {
			old := tls.Server(wire, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12})
			askTLS(old)
			io.Copy(io.Discard, old)
			old.Close()
		}},
		{name: "TLS 1.1", code: 4, says: []string{"handshake of TLS", "protocol version"}, script: func(c *tls.Conn, wire *net.TCPConn) {
			tls.Server(wire, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
			io.Copy(io.Discard, wire)
		}},
		{name: "a close without a word of TLS", code: 7, says: []string{"all 5 bytes of " + small, "did not keep", "close_notify"},
			script: func(c *tls.Conn, wire *net.TCPConn) { askTLS(c); io.Copy(io.Discard, c); wire.Close() }},
		{name: "a reset at the end", code: 7, says: []string{"all 5 bytes of " + small, "did not keep"},
			script: func(c *tls.Conn, wire *net.TCPConn) {
				askTLS(c)
				io.Copy(io.Discard, c)
				wire.SetLinger(0)
				wire.Close()
			}},
		{name: "no close at the end", flags: []string{"--confirm-timeout=" + limit}, code: 7, says: []string{"nothing was confirmed", limit},
			script: func(c *tls.Conn, wire *net.TCPConn) { askTLS(c); io.Copy(io.Discard, c); io.Copy(io.Discard, wire) }},
		{name: "a cut in the handshake", code: 6, says: []string{"handshake", "close_notify"},
			script: func(c *tls.Conn, wire *net.TCPConn) { io.WriteString(c, greeting); readTLS(c, confirm); wire.Close() }},
		{name: "a close in the handshake", code: 5, says: []string{"handshake"},
			script: func(c *tls.Conn, wire *net.TCPConn) { io.WriteString(c, greeting); readTLS(c, confirm); c.Close() }},
		{name: "a server that has given up", file: large, code: 5, says: []string{"bytes of " + large},
			script: func(c *tls.Conn, wire *net.TCPConn) { askTLS(c); c.CloseWrite(); io.Copy(io.Discard, wire) }},
		{name: "a server that takes no more", file: large, flags: []string{"--stall-timeout=" + limit}, code: 6, says: []string{"took no byte for " + limit},
			script: func(c *tls.Conn, wire *net.TCPConn) { askTLS(c); awaitClosed(wire) }},
		// For longer than the limit in all; between two of them the machine may be busy.
		{name: "a server that takes a little now and then", file: large, flags: []string{"--stall-timeout=1s"},
			script: func(c *tls.Conn, wire *net.TCPConn) {
				askTLS(c)
				for range 25 { // a record, and more, in each
					time.Sleep(100 * time.Millisecond)
					io.CopyN(io.Discard, c, 1<<20)
				}
				io.Copy(io.Discard, c)
				c.Close()
			}},
		{name: "no TLS", code: 5, says: []string{"does the server speak TLS?"},
			script: func(c *tls.Conn, wire *net.TCPConn) { io.WriteString(wire, greeting); io.Copy(io.Discard, wire) }},
		{name: "no word", flags: []string{"--greeting-timeout=" + limit}, code: 5, says: []string{"handshake of TLS", limit},
			script: func(c *tls.Conn, wire *net.TCPConn) { io.Copy(io.Discard, wire) }},
		{name: "a close instead", code: 6, says: []string{"handshake of TLS", "does the server speak TLS?"},
			script: func(c *tls.Conn, wire *net.TCPConn) { io.CopyN(io.Discard, wire, 100) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t, "127.0.0.1:0")
			if tt.file == "" {
				tt.file = small
			}
			p := sendFile(t, launch{}, ln.Addr(), append(append(a.trust(), tt.flags...), tt.file)...)
			wire := accept(t, ln).conn
			wire.SetDeadline(time.Now().Add(patience))
			tt.script(tls.Server(wire, &tls.Config{Certificates: []tls.Certificate{pair}}), wire)
			wire.Close()
			if tt.code == 0 {
				p.succeeds()
			} else {
				p.fails(tt.code, append(tt.says, "127.0.0.1:")...)
			}
		})
	}
}

// askTLS is the server's half of the handshake.
func askTLS(c net.Conn) {
	for _, word := range []string{confirm, again} {
		io.WriteString(c, greeting)
		readTLS(c, word)
	}
}

func readTLS(c net.Conn, word string) { io.ReadFull(c, make([]byte, len(word))) }

// awaitClosed waits until the peer has reset the connection, and takes nothing.
func awaitClosed(wire *net.TCPConn) {
	poll(func() bool {
		_, err := wire.Write(nil)
		raw, rerr := wire.SyscallConn()
		var code int
		if rerr == nil {
			raw.Control(func(fd uintptr) { code, rerr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
		}
		return err != nil || rerr != nil || code != 0
	})
}

// A signal has the client break off within TLS as well.
func TestASignalEndsTheClientWithTLS(t *testing.T) {
	busy(t)
	a := newAuthority(t)
	a.issue("server", time.Hour)
	pair, err := tls.LoadX509KeyPair(a.dir.join("server.pem"), a.dir.join("server.key"))
	check(t, err)
	large, _ := payloadFile(t, 64<<20)
	for _, tt := range []struct {
		name string
		to   func(c *tls.Conn, taken *client)
	}{
		{"in the handshake of TLS", func(_ *tls.Conn, taken *client) { io.CopyN(io.Discard, taken.conn, 1) }},
		{"in the handshake", func(c *tls.Conn, _ *client) { io.WriteString(c, greeting); readTLS(c, confirm) }},
		{"in the payload", func(c *tls.Conn, taken *client) { askTLS(c); taken.stuffed() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := listen(t, "127.0.0.1:0")
			p := sendFile(t, launch{}, ln.Addr(), append(a.trust(), large)...)
			server := accept(t, ln)
			server.conn.SetDeadline(time.Now().Add(patience))
			tt.to(tls.Server(server.conn, &tls.Config{Certificates: []tls.Certificate{pair}}), server)
			p.signal(syscall.SIGTERM)
			p.fails(1, "stopped")
			if _, err := io.Copy(io.Discard, server.conn); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server sees %v", err)
			}
		})
	}
}

// openssl is a client like any other.
func TestOpenSSLIsAClient(t *testing.T) {
	busy(t)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip(err)
	}
	bothServers(t, func(t *testing.T, program string) {
		a := newAuthority(t)
		a.issue("server", time.Hour)
		a.issue("me", time.Hour)
		s := serve(t, program, with(append(a.show("server"), "--tls-client-ca="+a.dir.join("ca.pem"))...))
		cmd := exec.Command(openssl, "s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-verify_hostname", "localhost",
			"-connect", fmt.Sprintf("127.0.0.1:%d", s.port), "-CAfile", filepath.Join(a.dir.path, "ca.pem"),
			"-cert", a.dir.join("me.pem"), "-key", a.dir.join("me.key"))
		cmd.Stdin = strings.NewReader(header + "hello, openssl")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		s.stop(received("hello, openssl"))
	})
}
