package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accio-go/accio/cmd/examples/exampletest"
	"github.com/accio-go/accio/stage/tlsstage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is the program under test.
type collector struct {
	*exampletest.Run
	t     *testing.T
	addr  string
	dir   string
	cert  string // the file
	roots *x509.CertPool
	hour  atomic.Int64
}

func start(t *testing.T) *collector {
	dir := t.TempDir()
	c := &collector{t: t, dir: filepath.Join(dir, "logs"), cert: filepath.Join(dir, "cert.pem")}
	files := tlsstage.Files{Cert: c.cert, Key: filepath.Join(dir, "key.pem")}
	c.roots = newCertificate(t, files)
	certs, err := tlsstage.NewReloader(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	ln := exampletest.Listen(t)
	c.addr = ln.Addr().String()
	c.Run = exampletest.Start(t, func(ctx context.Context) error {
		return collect(ctx, ln, certs, c.dir, func() time.Time {
			return time.Date(2026, 11, 25, int(c.hour.Load()), 59, 59, 0, time.FixedZone("", -3600))
		})
	})
	return c
}

// end stops the program, which is to end well.
func (c *collector) end() {
	c.t.Helper()
	if err := c.End(); err != nil {
		c.t.Error(err)
	}
}

// newCertificate makes a certificate of localhost.
func newCertificate(t *testing.T, files tlsstage.Files) *x509.CertPool {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(os.WriteFile(files.Cert, certPEM, 0o600), os.WriteFile(files.Key, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return roots
}

func (c *collector) dial() (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", c.addr, &tls.Config{ServerName: "localhost", RootCAs: c.roots})
	if err == nil {
		c.t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(exampletest.Patience))
	}
	return conn, err
}

// send sends s, ends the stream, and waits until the server closes: everything is in the
// files then.
func (c *collector) send(s string) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, s); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

func (c *collector) holds(want map[string]string) {
	c.t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(c.dir, e.Name()))
		if err != nil {
			c.t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	if !maps.Equal(got, want) {
		c.t.Errorf("the files are %q, want %q", got, want)
	}
}

// The clock of the tests is an hour behind UTC.
const firstHour = "2026-11-25T01.log"

func TestEachMessageIsALine(t *testing.T) {
	c := start(t)
	sent := "<34>1 one\n10 <34>1 two\n<34>1 three\n15 <34>1 fo\nur end<34>1 five\r\n"
	if err := c.send(sent); err != nil {
		t.Fatal(err)
	}
	c.holds(map[string]string{firstHour: "<34>1 one\n<34>1 two\n<34>1 three\n<34>1 fo#012ur end\n<34>1 five\r\n"})
	c.end()
}

func TestAFileIsOfAnHour(t *testing.T) {
	c := start(t)
	conn, err := c.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.send("<34>1 of the first\n"); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "<34>1 begun in the first, ")
	c.hour.Store(1)
	if err := c.send("<34>1 of the second\n"); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "complete in the second\n")
	conn.CloseWrite()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	c.holds(map[string]string{
		firstHour:           "<34>1 of the first\n",
		"2026-11-25T02.log": "<34>1 of the second\n<34>1 begun in the first, complete in the second\n",
	})
}

func TestNoMessageIsTorn(t *testing.T) {
	const senders, each = 8, 200
	c := start(t)
	var all sync.WaitGroup
	var want []string
	for s := range senders {
		var sent strings.Builder
		for i := range each {
			text := fmt.Sprintf("<34>1 %d %d %s", s, i, strings.Repeat(string(rune('a'+s)), 17*i))
			want = append(want, text+"\n")
			if i%2 == 0 {
				fmt.Fprintf(&sent, "%d %s", len(text), text)
			} else {
				fmt.Fprintln(&sent, text)
			}
		}
		all.Go(func() {
			if err := c.send(sent.String()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	file, err := os.ReadFile(filepath.Join(c.dir, firstHour))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range bytes.Lines(file) {
		got = append(got, string(line))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there are %d lines, want %d; or others", len(got), len(want))
	}
}

// What a sender does wrong costs the message that it does it in, and its connection.
func TestWhatIsWrongCostsNoOtherMessage(t *testing.T) {
	tests := []struct {
		name string
		do   func(c *tls.Conn) // after a message
	}{
		{"cut within a message", func(c *tls.Conn) {
			io.WriteString(c, "100 <34>1 part")
			c.NetConn().(*net.TCPConn).CloseWrite()
		}},
		{"cut between messages, without a close_notify", func(c *tls.Conn) {
			c.NetConn().(*net.TCPConn).CloseWrite()
		}},
		{"ended within a message", func(c *tls.Conn) {
			io.WriteString(c, "<34>1 no newline")
			c.CloseWrite()
		}},
		{"a message over the limit, by its length", func(c *tls.Conn) { io.WriteString(c, "65537 <34>1") }},
		{"a message over the limit, by its bytes", func(c *tls.Conn) {
			io.WriteString(c, strings.Repeat("x", 64<<10+1)+"\n")
		}},
		{"a length that is none", func(c *tls.Conn) { io.WriteString(c, "12x") }},
		{"what is no TLS", func(c *tls.Conn) { io.WriteString(c.NetConn(), "<34>1 in the clear\n") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t)
			conn, err := c.dial()
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, "<34>1 before\n")
			tt.do(conn)
			// The connection is reset, so that nobody takes it for a success.
			if _, err := io.Copy(io.Discard, conn.NetConn()); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the sender sees %v", err)
			}
			if err := c.send("<34>1 after\n"); err != nil {
				t.Fatal(err)
			}
			c.holds(map[string]string{firstHour: "<34>1 before\n<34>1 after\n"})
			c.end()
		})
	}
}

func TestAStopCostsTheMessagesUnderWay(t *testing.T) {
	c := start(t)
	conn, err := c.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.send("<34>1 whole\n"); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "<34>1 half")
	c.end()
	if _, err := io.Copy(io.Discard, conn); err == nil {
		t.Error("the sender may think that all is well")
	}
	c.holds(map[string]string{firstHour: "<34>1 whole\n"})
}

func TestADirectoryThatCannotBeIsAnError(t *testing.T) {
	dir := t.TempDir()
	files := tlsstage.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	newCertificate(t, files)
	certs, err := tlsstage.NewReloader(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := collect(t.Context(), nil, certs, files.Cert, time.Now); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}

// tool skips the test where a tool is not there.
func tool(t *testing.T, name string, args ...string) *exec.Cmd {
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), exampletest.Patience)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// logs returns what is sent each line that is logged.
func logs(t *testing.T) <-chan string {
	before, lines := slog.Default(), make(logLines, 100)
	slog.SetDefault(slog.New(slog.NewTextHandler(lines, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return lines
}

type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestOpensslSends(t *testing.T) {
	logged := logs(t)
	c := start(t)
	cmd := tool(t, "openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", c.addr, "-CAfile", c.cert, "-verify_return_error", "-verify_hostname", "localhost")
	cmd.Stdin = strings.NewReader("<14>1 - - - - - - hello\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	<-logged
	c.end()
	c.holds(map[string]string{firstHour: "<14>1 - - - - - - hello\n"})
}

func TestLoggerSends(t *testing.T) {
	c := start(t)
	// logger has no TLS: this is what socat is in the program's comment.
	gateway, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	_, port, _ := net.SplitHostPort(gateway.Addr().String())
	logger := tool(t, "logger", "--tcp", "--octet-count", "--server", "127.0.0.1", "--port", port, "--tag", "test", "hello\nworld")
	passed := make(chan error, 1)
	go func() {
		plain, err := gateway.Accept()
		if err != nil {
			passed <- err
			return
		}
		defer plain.Close()
		b, err := io.ReadAll(plain)
		passed <- errors.Join(err, c.send(string(b)))
	}()
	if out, err := logger.CombinedOutput(); err != nil {
		gateway.Close()
		<-passed
		t.Fatalf("%v\n%s", err, out)
	}
	if err := <-passed; err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(c.dir, firstHour))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(file), "\n"); lines != 1 && lines != 2 || !strings.Contains(string(file), "hello") || !strings.Contains(string(file), "world") {
		t.Errorf("it has sent %q", file)
	}
}
