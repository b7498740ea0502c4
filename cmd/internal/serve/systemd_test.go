//go:build unix

package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReload_calls_all_at_SIGHUP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	manager.SetReadDeadline(time.Now().Add(30 * time.Second))
	told := func(want string) {
		t.Helper()
		buf := make([]byte, 1024)
		if n, err := manager.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), want+"\n") {
			t.Errorf("the manager is told %q, %v; want %s", buf[:n], err, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", path)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()

	calls := make(chan string, 10)
	r := reloader{logs: new(Logs)}
	r.add(func() ([]any, error) { calls <- "first"; return nil, errors.New("a mistake in it") })
	r.add(func() ([]any, error) { calls <- "second"; return nil, nil })
	syscall.Kill(os.Getpid(), syscall.SIGHUP) // before it serves: it is remembered
	ctx, cancel := context.WithCancel(t.Context())
	stop := r.run(ctx, ln)
	for round := range 2 {
		if round > 0 {
			syscall.Kill(os.Getpid(), syscall.SIGHUP)
		}
		told("RELOADING=1")
		for _, want := range []string{"first", "second"} {
			if got := <-calls; got != want {
				t.Errorf("%s is called, want %s", got, want)
			}
		}
		told("READY=1") // also if one has failed
	}
	cancel()
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	<-calls // in a stop it reloads as well, but the manager knows better
	<-calls
	stop()
	notify("LAST=1\n")
	told("LAST=1")
}
