//go:build linux

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// Most of what a silent connection takes is the stack of a goroutine, unless it
// has none. All are saved in the end.
func TestSilentConnectionsTakeNoGoroutine(t *testing.T) {
	const many = 300
	few := runtime.NumGoroutine() + 100 // tests that wait for their turn, goroutines that rest, and those of this test
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	memory := fs.NewMemory()
	store, err := fs.New(memory, ".")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	chain := stage.Chain{
		stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		stage.Count{},
		stage.Idle{Limit: time.Hour},
		stage.Handshake{Script: stage.Accio},
	}.Then(stage.Receive)
	ended := make(chan error, many)
	srv := transport.Server{
		Handler: transport.SessionHandler(func(ctx context.Context, conn net.Conn, number uint64) transport.Session {
			return stage.NewSession(ctx, conn, number, chain, func(err error) { ended <- err })
		}),
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- srv.Serve(ctx, ln) }()

	conns := make([]net.Conn, many)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	silence := func(where string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > few; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines for %d connections that are silent %s", runtime.NumGoroutine(), many, where)
			}
		}
	}
	all := func(do func(c net.Conn) error) {
		t.Helper()
		for _, c := range conns {
			if err := do(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	hear := func(c net.Conn) error {
		_, err := io.ReadFull(c, make([]byte, len(stage.AccioGreeting)))
		return err
	}
	say := func(s string) func(c net.Conn) error {
		return func(c net.Conn) error {
			_, err := io.WriteString(c, s)
			return err
		}
	}
	all(hear)
	silence("before the first word")
	all(say(stage.AccioConfirm))
	all(hear)
	silence("before the second")
	all(say(stage.AccioConfirmAgain))
	silence("before the payload")
	all(say("pay"))
	silence("within the payload")
	all(say("load"))
	all(func(c net.Conn) error { return c.(*net.TCPConn).CloseWrite() })
	for range conns {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for i := range conns {
		name := fmt.Sprintf("%d.file", i+1)
		if got, err := afero.ReadFile(memory, name); string(got) != "payload" {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
