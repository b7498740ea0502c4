package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accio-go/accio/cmd/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is the program under test.
type pair struct {
	*exampletest.Run
	t             *testing.T
	echo, discard string // the sockets
}

// newPair has a directory with a short name: that of a socket has room for some 100 bytes.
func newPair(t *testing.T) *pair {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &pair{t: t, echo: filepath.Join(dir, "echo"), discard: filepath.Join(dir, "discard")}
}

func start(t *testing.T) *pair {
	p := newPair(t)
	p.Run = exampletest.Start(t, func(ctx context.Context) error { return run(ctx, p.echo, p.discard) })
	return p
}

func (p *pair) dial(path string) *net.UnixConn {
	for deadline := time.Now().Add(exampletest.Patience); ; {
		conn, err := net.Dial("unix", path)
		if err == nil {
			p.t.Cleanup(func() { conn.Close() })
			conn.SetDeadline(time.Now().Add(exampletest.Patience))
			return conn.(*net.UnixConn)
		}
		// It may not listen yet.
		if time.Now().After(deadline) || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			p.t.Fatal(err)
		}
	}
}

// ask sends s and returns what comes back.
func (p *pair) ask(path, s string) (string, error) {
	conn := p.dial(path)
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, s)
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	return string(got), errors.Join(err, <-sent)
}

func TestOneEchoesAndTheOtherDiscards(t *testing.T) {
	p := start(t)
	for _, s := range []string{"", "hello", strings.Repeat("0123456789", 500_000)} {
		if got, err := p.ask(p.echo, s); got != s || err != nil {
			t.Errorf("of %d bytes %d come back, %v", len(s), len(got), err)
		}
		if got, err := p.ask(p.discard, s); got != "" || err != nil {
			t.Errorf("of %d bytes that are discarded %d come back, %v", len(s), len(got), err)
		}
	}
}

func TestWhatComesBackDoesNotWaitForTheEnd(t *testing.T) {
	p := start(t)
	conn := p.dial(p.echo)
	for _, s := range []string{"ping\n", "pong\n"} {
		io.WriteString(conn, s)
		got := make([]byte, len(s))
		if _, err := io.ReadFull(conn, got); string(got) != s || err != nil {
			t.Errorf("%q comes back, %v", got, err)
		}
	}
}

func TestManyAskAtATime(t *testing.T) {
	p := start(t)
	p.dial(p.echo) // who says nothing
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got, err := p.ask(p.echo, "hello"); got != "hello" || err != nil {
				t.Errorf("%q comes back, %v", got, err)
			}
		})
	}
	all.Wait()
}

// Who takes nothing back, or goes away, costs nobody else anything.
func TestWhoGoesAwayIsNoMatter(t *testing.T) {
	p := start(t)
	conn := p.dial(p.echo)
	io.WriteString(conn, "never read")
	conn.Close()
	if got, err := p.ask(p.echo, "hello"); got != "hello" || err != nil {
		t.Errorf("%q comes back, %v", got, err)
	}
}

func TestAStopEndsBothAndRemovesTheSockets(t *testing.T) {
	p := start(t)
	conns := []*net.UnixConn{p.dial(p.echo), p.dial(p.discard)}
	io.WriteString(conns[0], "half")
	if err := p.End(); err != nil {
		t.Error(err)
	}
	for _, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection goes on")
		}
	}
	for _, path := range []string{p.echo, p.discard} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAPathThatIsTakenIsAnError(t *testing.T) {
	for _, first := range []bool{true, false} {
		p := newPair(t)
		taken, other := p.echo, p.discard
		if !first {
			taken, other = other, taken
		}
		if err := os.WriteFile(taken, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), p.echo, p.discard); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Lstat(other); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the other socket: %v", err)
		}
	}
}

func TestToolsAsk(t *testing.T) {
	p := start(t)
	p.dial(p.echo) // it listens
	for name, line := range map[string][]string{
		"nc":    {"nc", "-N", "-U", p.echo},
		"socat": {"socat", "-t", "10", "-", "UNIX-CONNECT:" + p.echo},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skip(err)
			}
			if help, _ := exec.Command(name, "-h").CombinedOutput(); name == "nc" && !strings.Contains(string(help), "-N") {
				t.Skip("this nc has no -N")
			}
			ctx, cancel := context.WithTimeout(t.Context(), exampletest.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, line[0], line[1:]...)
			cmd.Stdin = strings.NewReader("hello\n")
			if got, err := cmd.Output(); string(got) != "hello\n" || err != nil {
				t.Errorf("%q comes back, %v", got, err)
			}
		})
	}
}
