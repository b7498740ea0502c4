package proxyproto

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/accio-go/accio/stage"
)

// charsRead is how many bytes the process has read by system calls that bring them into
// user space (proc(5), /proc/pid/io).
func charsRead(t *testing.T) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "rchar: %d", &n); err == nil {
			return n
		}
	}
	t.Skip("the system does not count what is read")
	return 0
}

// What follows the header goes to a file without passing through the process.
func TestZeroCopySurvives(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	for _, tt := range []struct{ name, header string }{headersOf("version 1", 0), headersOf("version 2", 5)} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcp(t)
			f, err := os.Create(filepath.Join(t.TempDir(), "sink"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			before := charsRead(t)
			var wg sync.WaitGroup
			wg.Go(func() {
				client.Write(append([]byte(tt.header), payload...))
				client.(*net.TCPConn).CloseWrite()
			})
			into := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
				c.Out = f
				return nil, nil
			})
			err = stage.Serve(t.Context(), server, 1, stage.Chain{
				into, stage.Count{}, stage.Idle{Limit: patience}, Proxy{Trusted: loopback, Limit: patience},
				stage.MaxPerHost{N: 1}, stage.MaxDuration{Limit: patience},
			}.Then(stage.Receive))
			wg.Wait()
			if read := charsRead(t) - before; read > int64(len(payload)/16) {
				t.Errorf("%d bytes were read into the process", read)
			}
			if err != nil {
				t.Errorf("ended with %v", err)
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%d bytes were stored, or others; %v", len(got), err)
			}
		})
	}
}

func headersOf(name string, i int) struct{ name, header string } {
	return struct{ name, header string }{name, headers[i].header}
}
