package stagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// large is the size of a payload that is to be spliced.
const large = 2 << 20

// checkZeroCopy has a payload received over TCP, by a thread of its own, and looks at
// what has gone through user space: through the Write of the file, and by calls of the
// thread that read and write (rchar and wchar in proc_pid_io(5)), to which splice adds
// nothing. What goes through others is none of these.
func checkZeroCopy(c *checking) {
	send, want := c.payload(large)
	if len(want) < 1<<20 {
		c.Fatalf("stagetest: a Payload of %d bytes does not show zero-copy", len(want))
	}
	server, client, err := tcpPair()
	if err != nil {
		c.Fatal(err)
	}
	defer client.Close()
	file, err := os.CreateTemp(c.TempDir(), "payload")
	if err != nil {
		c.Fatal(err)
	}
	defer file.Close()
	out := &filer{file: file}
	instance := c.New(c.T)
	h := stage.Chain{
		stage.Bracket(func(_ context.Context, conn *stage.Conn) (func(error) error, error) {
			conn.Out = out
			return nil, nil
		}),
		instance.Stage,
	}.Then(stage.Receive)

	peerEnd := then(then(sendsAll(c.Before, send), c.After...), memnet.Fin).Start(client)
	var through int64
	var served, counted error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before, err := transferred()
		served = stage.Serve(c.Context(), server, 1, h)
		after, err2 := transferred()
		through, counted = after-before, errors.Join(err, err2)
	}()
	<-done
	if err := errors.Join(served, peerEnd()); err != nil {
		c.Fatal(err)
	}
	var got []byte
	if instance.Stored != nil {
		got, err = instance.Stored(1)
	} else {
		got, err = os.ReadFile(file.Name())
	}
	if err != nil {
		c.Fatal(err)
	}
	if diff := differs(got, want); diff != "" {
		c.broken("the payload does not reach the file: %s", diff)
	}
	// What comes in less than a page at a time is copied (package stage, Zero-copy).
	most := int64(len(want) / 8)
	if out.written > most {
		c.broken("%d of %d bytes went through the Write of the file", out.written, len(want))
	}
	if counted != nil {
		c.Logf("what the thread has read and written is not known: %v", counted)
	} else if through > most {
		c.broken("the thread has read and written %d bytes itself, of a payload of %d", through, len(want))
	}
}

// filer is a file that knows what goes through its Write.
type filer struct {
	file    *os.File
	written int64
}

func (f *filer) File() *os.File { return f.file }

func (f *filer) Write(p []byte) (int, error) {
	f.written += int64(len(p))
	return f.file.Write(p)
}

// transferred is how much the thread has read and written.
func transferred() (sum int64, err error) {
	b, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		return 0, err
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		for _, name := range []string{"rchar: ", "wchar: "} {
			if s, ok := strings.CutPrefix(line, name); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n
				found++
			}
		}
	}
	if found != 2 {
		return 0, fmt.Errorf("no rchar and wchar: %w", io.ErrUnexpectedEOF)
	}
	return sum, nil
}

func tcpPair() (server, client net.Conn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if server, err = ln.Accept(); err != nil {
		client.Close()
	}
	return server, client, err
}
