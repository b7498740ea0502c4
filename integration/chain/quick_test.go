package chain

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// Clients that send as quickly as they can, pause for longer than a server holds anything for
// them, and go on.
func TestQuickClientsThatPause(t *testing.T) {
	const clients, much, pauses = 4, 32 << 20, 3
	payload := make([]byte, much)
	rand.NewChaCha8([32]byte{}).Read(payload)
	dir := t.TempDir()
	store, err := fs.OpenDir(dir, fs.WithDurability(fs.None))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ln, err := transport.ListenOn(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	srv := transport.Server{Handler: stage.ServeFunc(chain(store))}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()

	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, header)
			for range pauses {
				if _, err := conn.Write(payload); err != nil {
					t.Error(err)
				}
				time.Sleep(300 * time.Millisecond)
			}
			conn.(*net.TCPConn).CloseWrite()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("the end is no orderly one: %v", err)
			}
		})
	}
	all.Wait()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != clients {
		t.Errorf("there are %q, %v", files, err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, much)
		for range pauses {
			if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%s: another payload, or %v", name, err)
			}
		}
		if n, err := f.Read(got); n > 0 || err != io.EOF {
			t.Errorf("%s: there is more, or %v", name, err)
		}
		f.Close()
	}
}
