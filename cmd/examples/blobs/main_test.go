package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/accio-go/accio/cmd/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how many bytes a blob may have.
const limit = 1 << 20

// receiver is the program under test.
type receiver struct {
	*exampletest.Run
	t    *testing.T
	addr net.Addr
	dir  string
}

func start(t *testing.T) *receiver {
	ln := exampletest.Listen(t)
	r := &receiver{t: t, addr: ln.Addr(), dir: filepath.Join(t.TempDir(), "blobs")}
	r.Run = exampletest.Start(t, func(ctx context.Context) error { return receive(ctx, ln, r.dir, limit) })
	return r
}

func (r *receiver) dial() *net.TCPConn { return exampletest.Dial(r.t, r.addr) }

// send sends a blob and returns what it is told.
func (r *receiver) send(blob string) (string, error) {
	return exampletest.Send(r.t, r.addr, []byte(blob))
}

func digest(blob string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(blob))) }

func receipt(blob string) string { return fmt.Sprintf("%d %s\n", len(blob), digest(blob)) }

// holds fails the test unless the directory holds these blobs, and nothing else at all.
func (r *receiver) holds(blobs ...string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	var got, want []string
	for _, e := range entries {
		got = append(got, e.Name())
		if b, err := os.ReadFile(filepath.Join(r.dir, e.Name())); err != nil || digest(string(b)) != e.Name() {
			r.t.Errorf("%s holds something else (%v)", e.Name(), err)
		}
	}
	for _, b := range blobs {
		want = append(want, digest(b))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("the directory holds %q, want %q", got, want)
	}
}

func TestABlobIsKeptUnderItsDigest(t *testing.T) {
	r := start(t)
	blobs := []string{"", "hello", strings.Repeat("0123456789", 100_000), strings.Repeat("x", limit)}
	for _, b := range blobs {
		if told, err := r.send(b); told != receipt(b) || err != nil {
			t.Errorf("of %d bytes: the sender is told %q, %v", len(b), told, err)
		}
	}
	r.holds(blobs...)
}

func TestABlobIsKeptOnce(t *testing.T) {
	const senders, each = 8, 20
	r := start(t)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for i := range each {
				blob := strings.Repeat(fmt.Sprint(i), 1000)
				if told, err := r.send(blob); told != receipt(blob) || err != nil {
					t.Errorf("the sender is told %q, %v", told, err)
				}
			}
		})
	}
	all.Wait()
	var want []string
	for i := range each {
		want = append(want, strings.Repeat(fmt.Sprint(i), 1000))
	}
	r.holds(want...)
}

func TestABlobOverTheLimitIsNotKept(t *testing.T) {
	r := start(t)
	// The write may fail as well, since the rest is not waited for.
	if told, err := r.send(strings.Repeat("x", limit+1)); told != "" || !broken(err) {
		t.Errorf("the sender is told %q, %v", told, err)
	}
	r.holdsInTheEnd()
}

func TestAPartOfABlobIsNotKept(t *testing.T) {
	r := start(t)
	conn := r.dial()
	if _, err := io.WriteString(conn, strings.Repeat("x", limit/2)); err != nil {
		t.Fatal(err)
	}
	conn.SetLinger(0)
	conn.Close() // by a reset
	if told, err := r.send("another"); told != receipt("another") || err != nil {
		t.Errorf("another is told %q, %v", told, err)
	}
	r.holdsInTheEnd("another")
}

// Nothing is accepted after a stop, and what is under way is completed.
func TestWhoIsSendingAtAStopFinishes(t *testing.T) {
	r := start(t)
	conn := r.dial()
	if told, err := r.send("before"); told != receipt("before") || err != nil { // so conn is served
		t.Fatal(told, err)
	}
	io.WriteString(conn, "hello, ")
	r.Stop()
	exampletest.AwaitClosed(r.addr)
	io.WriteString(conn, "world")
	conn.CloseWrite()
	if told, err := io.ReadAll(conn); string(told) != receipt("hello, world") || err != nil {
		t.Errorf("the sender is told %q, %v", told, err)
	}
	r.holdsInTheEnd("before", "hello, world")
}

// holdsInTheEnd is holds, when the program has ended.
func (r *receiver) holdsInTheEnd(blobs ...string) {
	r.t.Helper()
	r.End()
	r.holds(blobs...)
}

func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func TestADirectoryThatCannotBeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := receive(t.Context(), nil, file, limit); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}

func TestToolsSend(t *testing.T) {
	r := start(t)
	host, port, _ := net.SplitHostPort(r.addr.String())
	for blob, line := range map[string][]string{
		"by nc":    {"nc", "-N", host, port},
		"by ncat":  {"ncat", host, port},
		"by socat": {"socat", "-t", "10", "-", "TCP:" + r.addr.String()},
	} {
		t.Run(blob, func(t *testing.T) {
			if _, err := exec.LookPath(line[0]); err != nil {
				t.Skip(err)
			}
			if help, _ := exec.Command(line[0], "-h").CombinedOutput(); line[0] == "nc" && !strings.Contains(string(help), "-N") {
				t.Skip("this nc has no -N")
			}
			ctx, cancel := context.WithTimeout(t.Context(), exampletest.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, line[0], line[1:]...)
			cmd.Stdin = strings.NewReader(blob)
			if told, err := cmd.Output(); string(told) != receipt(blob) || err != nil {
				t.Errorf("it is told %q, %v", told, err)
			}
		})
	}
}
