package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/stage/internal/splice"
)

// halfCloser is a connection of which one direction can end before the other.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// networks is the connections that the kernel can take bytes from.
var networks = map[string]func(t testing.TB) (server, client halfCloser){
	"TCP": func(t testing.TB) (halfCloser, halfCloser) {
		s, c := tcpPair(t)
		return s, c
	},
	"Unix": func(t testing.TB) (halfCloser, halfCloser) {
		ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
		if err != nil {
			t.Fatal(err)
		}
		s, c := pairOf(t, ln)
		return s.(*net.UnixConn), c.(*net.UnixConn)
	},
}

// send has c send b and end its stream, until the test ends.
func send(t testing.TB, c halfCloser, b []byte) {
	done := play(c, says(string(b)), ends)
	t.Cleanup(func() {
		c.Close()
		<-done
	})
}

func tempFile(t testing.TB, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "sink"), os.O_RDWR|os.O_CREATE|flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func contentOf(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// filer is a Filer that notes how many bytes went through its Write.
type filer struct {
	f       *os.File
	written atomic.Int64
}

func (f *filer) File() *os.File { return f.f }

func (f *filer) Write(p []byte) (int, error) {
	f.written.Add(int64(len(p)))
	return f.f.Write(p)
}

// aPipe returns a pipe whose reading end is read until its end; all is what
// came out. Its writing end blocks as the flags of pipe2(2) have it.
func aPipe(t testing.TB, flags int) (w *os.File, all func() []byte) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], flags|syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(fds[0]), "reading end")
	w = os.NewFile(uintptr(fds[1]), "writing end")
	read := make(chan []byte, 1)
	go func() {
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		read <- b
	}()
	t.Cleanup(func() { w.Close() })
	return w, func() []byte {
		w.Close()
		return <-read
	}
}

// way is how bytes get into a sink.
type way int

const (
	byBuffer way = iota
	byKernel
	byKernelFromTCP
	eitherWay
)

// sources is what a payload can come from: all of what is returned.
var sources = map[string]func(t testing.TB, payload []byte) io.Reader{
	"TCP": func(t testing.TB, payload []byte) io.Reader {
		server, client := networks["TCP"](t)
		send(t, client, payload)
		return server
	},
	"TCP, as In of a Conn": func(t testing.TB, payload []byte) io.Reader {
		server, client := networks["TCP"](t)
		send(t, client, payload)
		return NewConn(server, 1).In
	},
	"Unix": func(t testing.TB, payload []byte) io.Reader {
		server, client := networks["Unix"](t)
		send(t, client, payload)
		return server
	},
	"a file": func(t testing.TB, payload []byte) io.Reader {
		f := tempFile(t, 0)
		if _, err := f.WriteString("not this, but " + string(payload)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(int64(len("not this, but ")), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		return f
	},
	"a pipe": func(t testing.TB, payload []byte) io.Reader {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			defer w.Close()
			w.Write(payload)
		}()
		t.Cleanup(func() { r.Close(); <-written })
		return r
	},
}

// peerOf is what the other side of a connection receives until its end.
func peerOf(t testing.TB, open func(testing.TB) (server, client halfCloser)) (w io.Writer, all func() []byte) {
	server, client := open(t)
	received := make(chan []byte, 1)
	go func() {
		b, err := io.ReadAll(client)
		if err != nil && !t.Failed() {
			t.Error(err)
		}
		received <- b
	}()
	all = sync.OnceValue(func() []byte {
		server.Close()
		return <-received
	})
	t.Cleanup(func() { all() })
	return server, all
}

// sinks is what a payload can end in.
var sinks = []struct {
	name string
	way  way
	open func(t testing.TB) (w io.Writer, content func() []byte)
}{
	{"a file", byKernel, func(t testing.TB) (io.Writer, func() []byte) {
		f := tempFile(t, 0)
		return f, func() []byte { return contentOf(t, f) }
	}},
	{"a writer that is one with a file", byKernel, func(t testing.TB) (io.Writer, func() []byte) {
		f := &filer{f: tempFile(t, 0)}
		return f, func() []byte { return contentOf(t, f.f) }
	}},
	{"a pipe", byKernel, func(t testing.TB) (io.Writer, func() []byte) {
		return aPipe(t, syscall.O_NONBLOCK)
	}},
	{"a pipe that blocks, as standard output may be", eitherWay, func(t testing.TB) (io.Writer, func() []byte) {
		return aPipe(t, 0)
	}},
	{"a TCP connection", byKernel, func(t testing.TB) (io.Writer, func() []byte) {
		return peerOf(t, networks["TCP"])
	}},
	{"a Unix connection", byKernel, func(t testing.TB) (io.Writer, func() []byte) {
		return peerOf(t, networks["Unix"])
	}},
	{"nowhere", byKernelFromTCP, func(t testing.TB) (io.Writer, func() []byte) {
		return io.Discard, nil
	}},
	{"a file that is open for appending", byBuffer, func(t testing.TB) (io.Writer, func() []byte) {
		f := tempFile(t, os.O_APPEND)
		return f, func() []byte { return contentOf(t, f) }
	}},
	{"a writer that is one with a file that is open for appending", byBuffer, func(t testing.TB) (io.Writer, func() []byte) {
		f := &filer{f: tempFile(t, os.O_APPEND)}
		return f, func() []byte { return contentOf(t, f.f) }
	}},
	{"a writer that says it has a file, and has none yet", byBuffer, func(t testing.TB) (io.Writer, func() []byte) {
		b := &fileless{}
		return b, b.Bytes
	}},
	{"a buffer", byBuffer, func(t testing.TB) (io.Writer, func() []byte) {
		b := &bytes.Buffer{}
		return b, b.Bytes
	}},
	{"a writer that looks at what goes to a file", byBuffer, func(t testing.TB) (io.Writer, func() []byte) {
		l := &looker{Writer: tempFile(t, 0)}
		return l, func() []byte { return l.seen }
	}},
}

type fileless struct{ bytes.Buffer }

func (*fileless) File() *os.File { return nil }

// usedBuffers replaces the pool of buffers by a new one until the test ends,
// and returns how many buffers have been taken that were not there before. With
// 0, no byte of payload can have been in the hands of the process.
func usedBuffers(t testing.TB) func() int64 {
	var n atomic.Int64
	make := buffers.New
	buffers = sync.Pool{New: func() any {
		n.Add(1)
		return make()
	}}
	t.Cleanup(func() { buffers = sync.Pool{New: make} })
	return n.Load
}

// narrowPipe returns a pipe that takes little before it is read.
func narrowPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETPIPE_SZ, 1)
	})
	return r, w
}

// freePipes returns how many pipes can be taken, and reports any that holds bytes.
func freePipes(t testing.TB) (n int) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var all [splice.MaxPipes]splice.Pipe
	for n < len(all) && all[n].Take() {
		defer all[n].Free()
		if m, err := all[n].Drain(int(null.Fd()), 1); err != syscall.EAGAIN {
			t.Errorf("a free pipe has %d bytes, %v", m, err)
		}
		n++
	}
	return n
}

// checkPipes reports pipes that are lost or hold bytes.
func checkPipes(t testing.TB) {
	t.Helper()
	if n := freePipes(t); n != splice.MaxPipes {
		t.Errorf("%d pipes are free, want %d", n, splice.MaxPipes)
	}
}

// await waits for what is bound to become true.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); runtime.Gosched() {
		if time.Since(start) > patience {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestCopySourcesAndSinks(t *testing.T) {
	all := noise(transferSize/4+12345, 6)
	for from, open := range sources {
		for _, s := range sinks {
			for _, size := range []int{0, 1, bufferSize, bufferSize + 1, len(all)} {
				t.Run(fmt.Sprintf("%d bytes from %s to %s", size, from, s.name), func(t *testing.T) {
					payload := all[:size]
					dst, content := s.open(t)
					src := open(t, payload)
					var in, out Counter
					n, err := Copy(NewWriter(dst, &out), NewReader(src, &in))
					if err != nil {
						t.Error(err)
					}
					if want := int64(size); n != want || in.Count() != want || out.Count() != want {
						t.Errorf("copied %d bytes, the gates saw %d and %d; want %d", n, in.Count(), out.Count(), want)
					}
					if content != nil {
						sameBytes(t, content(), payload)
					}
					checkPipes(t)
				})
			}
		}
	}
}

// strictGate allows so many bytes at a time, and reports what passes unasked.
func strictGate(t *testing.T, where string, most int) Gate {
	allowed := 0
	return testGate{
		allow: func(max int) (int, error) {
			allowed = min(max, most)
			return allowed, nil
		},
		passed: func(n int, err error) error {
			if n > allowed {
				t.Errorf("%d bytes passed the gate before the %s, which allowed %d", n, where, allowed)
			}
			allowed = 0
			return err
		},
	}
}

func TestCopyGatesLimitEachTransfer(t *testing.T) {
	payload := noise(100_000, 17)
	for from, open := range sources {
		for _, s := range sinks {
			t.Run("from "+from+" to "+s.name, func(t *testing.T) {
				dst, content := s.open(t)
				n, err := Copy(NewWriter(dst, strictGate(t, "sink", 3001)), NewReader(open(t, payload), strictGate(t, "source", 7001)))
				if n != int64(len(payload)) || err != nil {
					t.Errorf("copied %d, %v", n, err)
				}
				if content != nil {
					sameBytes(t, content(), payload)
				}
				checkPipes(t)
			})
		}
	}
}

func TestCopyZeroCopy(t *testing.T) {
	payload := noise(transferSize/2, 7)
	for from, open := range sources {
		for _, s := range sinks {
			kernel := from != "a pipe" && (s.way == byKernel || s.way == byKernelFromTCP && strings.HasPrefix(from, "TCP"))
			t.Run(fmt.Sprintf("from %s to %s", from, s.name), func(t *testing.T) {
				var got int64
				for range 20 { // a small piece, as a busy system may send it, goes by a buffer
					used := usedBuffers(t)
					dst, _ := s.open(t)
					n, err := Copy(NewWriter(NewWriter(dst, new(Counter)), atMost(3*bufferSize)),
						NewReader(NewReader(open(t, payload), new(Counter)), new(Counter)))
					if n != int64(len(payload)) || err != nil {
						t.Errorf("copied %d, %v", n, err)
					}
					if f, ok := dst.(*filer); ok && kernel && f.written.Load() > n/8 {
						t.Errorf("%d bytes went through its Write", f.written.Load())
					}
					if got = used(); !kernel || got == 0 {
						break
					}
				}
				if kernel && got != 0 {
					t.Errorf("%d buffers were used", got)
				} else if !kernel && got == 0 && s.way != eitherWay {
					t.Error("no buffer was used; where were the bytes?")
				}
			})
		}
	}
}

// fileStore is a Store of files that notes how many bytes were written by the
// process rather than by the kernel.
type fileStore struct {
	dir     string
	written int64
}

type filePending struct {
	filer
	s    *fileStore
	name string
}

func (s *fileStore) Create(_ context.Context, name string) (Pending, error) {
	f, err := os.Create(filepath.Join(s.dir, "."+name))
	if err != nil {
		return nil, err
	}
	return &filePending{filer: filer{f: f}, s: s, name: name}, nil
}

func (s *fileStore) Remove(name string) error { return os.Remove(filepath.Join(s.dir, name)) }

func (p *filePending) Commit() error {
	p.s.written += p.written.Load()
	return errors.Join(p.f.Close(), os.Rename(p.f.Name(), filepath.Join(p.s.dir, p.name)))
}

func (p *filePending) Abort() error {
	p.f.Close()
	if err := os.Remove(p.f.Name()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// What comes first opens the file, and is in the hands of the process before it
// can be known where it goes; everything else the kernel moves, through all
// stages.
func TestCopyZeroCopyThroughAChain(t *testing.T) {
	payload := noise(2*transferSize, 8)
	look := StageFunc(func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) error {
			c.In = &looker{Reader: c.In}
			return next.Serve(ctx, c)
		})
	})
	for _, looks := range []bool{false, true} {
		t.Run(fmt.Sprint("with a stage that looks at the bytes: ", looks), func(t *testing.T) {
			store := &fileStore{dir: t.TempDir()}
			var counter *Counter
			chain := Chain{
				Save{Store: store, Name: NumberedFile, Mark: ErrorMark},
				Recover{},
				Count{},
				Idle{Limit: patience},
				Handshake{Script: Accio},
				StageFunc(func(next Handler) Handler {
					return HandlerFunc(func(ctx context.Context, c *Conn) error {
						counter = c.Counter
						return next.Serve(ctx, c)
					})
				}),
			}
			if looks {
				chain = append(chain, look)
			}
			server, client := tcpPair(t)
			done := play(client,
				func(c net.Conn) error { return Accio.Mirror().Run(c, c) },
				says(string(payload)), ends, farewell)
			if err := Serve(t.Context(), server, 1, chain.Then(Receive)); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Errorf("the peer: %v", err)
			}
			got, err := os.ReadFile(filepath.Join(store.dir, "1.file"))
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, got, payload)
			if n := counter.Count(); n != int64(len(payload)) {
				t.Errorf("counted %d bytes, want %d", n, len(payload))
			}
			if looks && store.written != int64(len(payload)) {
				t.Errorf("the process wrote %d bytes of %d that it had to see", store.written, len(payload))
			}
			if !looks && store.written > int64(len(payload)/8) { // the first buffer, and small pieces
				t.Errorf("the process wrote %d bytes of %d", store.written, len(payload))
			}
			checkPipes(t)
		})
	}
}

func TestCopyFromTheOffsetOfAFile(t *testing.T) {
	for network, open := range networks {
		t.Run(network, func(t *testing.T) {
			payload := noise(transferSize+1, 9)
			f := tempFile(t, 0)
			if _, err := f.WriteString("beginning, which is overwritten"); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Seek(9, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			server, client := open(t)
			send(t, client, payload)
			if _, err := Copy(f, server); err != nil {
				t.Error(err)
			}
			if _, err := f.WriteString("end"); err != nil {
				t.Error(err)
			}
			sameBytes(t, contentOf(t, f), []byte("beginning"+string(payload)+"end"))
		})
	}
}

func TestCopyAfterADeadline(t *testing.T) {
	payload := noise(transferSize/2, 10)
	for network, open := range networks {
		for _, s := range sinks {
			t.Run(fmt.Sprintf("from %s to %s", network, s.name), func(t *testing.T) {
				dst, content := s.open(t)
				server, client := open(t)
				send(t, client, payload)
				var total int64
				for cuts := 0; ; cuts++ {
					passed := 0
					n, err := Copy(dst, NewReader(server, testGate{
						allow: func(max int) (int, error) { return min(max, 10_007), nil },
						passed: func(n int, err error) error {
							if passed++; passed%3 == 0 {
								server.SetReadDeadline(time.Unix(1, 0))
							}
							return err
						},
					}))
					total += n
					if err == nil {
						if cuts < 10 {
							t.Errorf("it was cut %d times only", cuts)
						}
						break
					}
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
					server.SetReadDeadline(time.Time{})
				}
				if total != int64(len(payload)) {
					t.Errorf("copied %d bytes in all, want %d", total, len(payload))
				}
				if content != nil {
					sameBytes(t, content(), payload)
				}
				checkPipes(t)
			})
		}
	}
}

// Copy loses nothing where the owner of a deadline moves it while a read waits.
func TestCopyWhileADeadlineMoves(t *testing.T) {
	payload := noise(transferSize/2, 18)
	for network, open := range networks {
		for _, s := range sinks {
			t.Run(fmt.Sprintf("from %s to %s", network, s.name), func(t *testing.T) {
				dst, content := s.open(t)
				server, client := open(t)
				c, moved := NewConn(server, 1), make(chan struct{}, 1)
				c.NewDeadline(func(now time.Time) (time.Time, error) {
					select {
					case moved <- struct{}{}:
					default:
					}
					return now.Add(time.Millisecond), nil
				}).SetReadDeadline(time.Now())
				var peer []act
				for piece := range slices.Chunk(payload, len(payload)/5) {
					peer = append(peer, func(net.Conn) error { <-moved; return nil }, says(string(piece)))
				}
				done := play(client, append(peer, ends)...)
				if n, err := Copy(dst, c.In); n != int64(len(payload)) || err != nil {
					t.Errorf("copied %d, %v", n, err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if content != nil {
					sameBytes(t, content(), payload)
				}
				checkPipes(t)
			})
		}
	}
}

// upperConn is a connection that changes what is read of it.
type upperConn struct{ *net.TCPConn }

func (c upperConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	copy(p, bytes.ToUpper(p[:n]))
	return n, err
}

// upperFile is a file that changes what is written to it.
type upperFile struct{ *os.File }

func (f upperFile) Write(p []byte) (int, error) { return f.File.Write(bytes.ToUpper(p)) }

func TestCopyCallsMethodsOfEmbeddingTypes(t *testing.T) {
	t.Run("a connection", func(t *testing.T) {
		for _, wrap := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r },
			func(r io.Reader) io.Reader { return NewReader(r, new(Counter)) },
			func(r io.Reader) io.Reader { return NewConn(r.(net.Conn), 1).In },
		} {
			server, client := tcpPair(t)
			send(t, client, bytes.Repeat([]byte("hello"), 100_000))
			f := tempFile(t, 0)
			if _, err := Copy(f, wrap(upperConn{server})); err != nil {
				t.Error(err)
			}
			sameBytes(t, contentOf(t, f), bytes.Repeat([]byte("HELLO"), 100_000))
		}
	})
	t.Run("a connection whose bytes are only counted", func(t *testing.T) {
		server, client := tcpPair(t)
		send(t, client, []byte("hello"))
		l := &looker{Reader: server}
		if n, err := Copy(io.Discard, l); n != 5 || err != nil || string(l.seen) != "hello" {
			t.Errorf("copied %d, %v; seen %q", n, err, l.seen)
		}
	})
	t.Run("a file", func(t *testing.T) {
		server, client := tcpPair(t)
		send(t, client, bytes.Repeat([]byte("hello"), 100_000))
		f := tempFile(t, 0)
		if _, err := Copy(NewWriter(upperFile{f}, new(Counter)), server); err != nil {
			t.Error(err)
		}
		sameBytes(t, contentOf(t, f), bytes.Repeat([]byte("HELLO"), 100_000))
	})
}

// Urgent data is none of the payload, or a part of it if the connection is to
// have it so (SO_OOBINLINE, socket(7)). What follows it belongs to it either way.
func TestCopyUrgentData(t *testing.T) {
	urgent := func(c net.Conn) error {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		var serr error
		err = raw.Write(func(fd uintptr) bool {
			_, serr = syscall.SendmsgN(int(fd), []byte("!"), nil, nil, syscall.MSG_OOB)
			return serr != syscall.EAGAIN
		})
		return errors.Join(err, serr)
	}
	const waits = "before the peer waits on"
	tests := map[string]struct {
		peer             []act
		without, inlined string
	}{
		"at the start":  {[]act{urgent, says("before"), says("after"), ends}, "beforeafter", "!beforeafter"},
		"in the middle": {[]act{says("before"), urgent, says("after"), ends}, "beforeafter", "before!after"},
		"at the end":    {[]act{says("before"), says("after"), urgent, ends}, "beforeafter", "beforeafter!"},
		waits:           {[]act{says("before"), urgent, says("after"), awaitsEnd}, "beforeafter", "before!after"},
	}
	for _, inline := range []bool{false, true} {
		for _, s := range sinks {
			for name, tt := range tests {
				t.Run(fmt.Sprintf("%s, to %s, inline: %t", name, s.name, inline), func(t *testing.T) {
					dst, content := s.open(t)
					server, client := tcpPair(t)
					want := tt.without
					if inline {
						want = tt.inlined
						raw, err := server.SyscallConn()
						if err != nil {
							t.Fatal(err)
						}
						raw.Control(func(fd uintptr) {
							syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1)
						})
					}
					done := play(client, tt.peer...)
					server.SetReadDeadline(time.Now().Add(patience / 5))
					got := 0
					n, err := Copy(dst, NewReader(server, testGate{passed: func(n int, err error) error {
						if got += n; got == len(want) && name == waits {
							server.CloseWrite()
						}
						return err
					}}))
					if n != int64(len(want)) || err != nil {
						t.Errorf("copied %d, %v; want %d", n, err, len(want))
					}
					if content != nil {
						sameBytes(t, content(), []byte(want))
					}
					server.Close()
					if err := <-done; err != nil {
						t.Errorf("the peer: %v", err)
					}
				})
			}
		}
	}
}

// awaitsEnd is a peer that ends its stream after the other side has.
func awaitsEnd(c net.Conn) error { return errors.Join(farewell(c), ends(c)) }

func TestCopyEmptyDatagram(t *testing.T) {
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "socket"), Net: "unixgram"}
	server, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.DialUnix("unixgram", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, s := range []string{"one", "", "two"} {
		if _, err := client.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	var got bytes.Buffer
	passed := 0
	n, err := Copy(&got, NewReader(server, testGate{passed: func(n int, err error) error {
		if passed += n; passed == len("onetwo") {
			server.SetReadDeadline(time.Unix(1, 0)) // there is no other end
		}
		return err
	}}))
	if !errors.Is(err, os.ErrDeadlineExceeded) || got.String() != "onetwo" {
		t.Errorf("copied %d bytes, %q, %v", n, got.String(), err)
	}
}

func TestCopySinkFails(t *testing.T) {
	closed := func(t *testing.T) *os.File {
		f := tempFile(t, 0)
		f.Close()
		return f
	}
	tests := []struct {
		name string
		open func(t *testing.T) *os.File
		is   error
	}{
		{"a full disk", func(t *testing.T) *os.File { return openFile(t, "/dev/full", os.O_WRONLY) }, syscall.ENOSPC},
		{"a file that is closed", closed, os.ErrClosed},
		{"a file that is open for reading only", func(t *testing.T) *os.File {
			return openFile(t, tempFile(t, 0).Name(), os.O_RDONLY)
		}, syscall.EBADF},
		{"a pipe that nobody reads", func(t *testing.T) *os.File {
			r, w := narrowPipe(t)
			r.Close()
			return w
		}, syscall.EPIPE},
		{"a pipe whose deadline has passed", func(t *testing.T) *os.File {
			_, w := narrowPipe(t)
			w.SetWriteDeadline(time.Unix(1, 0))
			return w
		}, os.ErrDeadlineExceeded},
	}
	for network, open := range networks {
		for _, tt := range tests {
			t.Run(tt.name+", from "+network, func(t *testing.T) {
				server, client := open(t)
				if err := says("hello")(client); err != nil {
					t.Fatal(err)
				}
				for what, dst := range map[string]io.Writer{
					"moved by the kernel":  tt.open(t),
					"written by a process": &looker{Writer: tt.open(t)},
				} {
					says("hello")(client)
					var in, out Counter
					n, err := Copy(NewWriter(dst, &out), NewReader(server, &in))
					if !errors.Is(err, tt.is) {
						t.Errorf("%s: %v, want %v", what, err, tt.is)
					}
					if n != 0 || out.Count() != 0 || in.Count() == 0 {
						t.Errorf("%s: copied %d, the gates saw %d and %d", what, n, in.Count(), out.Count())
					}
					checkPipes(t)
				}
			})
		}
	}
}

func openFile(t *testing.T, name string, flag int) *os.File {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// lateSinks is sinks that have a write deadline and take little at a time.
var lateSinks = map[string]func(t testing.TB) (w lateSink, all func() []byte){
	"a pipe": func(t testing.TB) (lateSink, func() []byte) {
		r, w := narrowPipe(t)
		return w, func() []byte {
			w.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			return b
		}
	},
	"a TCP connection": func(t testing.TB) (lateSink, func() []byte) {
		server, client := tcpPair(t)
		server.SetWriteBuffer(1)
		return server, func() []byte {
			server.Close()
			b, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			return b
		}
	},
}

type lateSink interface {
	io.WriteCloser
	SetWriteDeadline(t time.Time) error
}

func TestCopySinkDeadline(t *testing.T) {
	payload := noise(transferSize, 11)
	for from, open := range sources {
		for to, openSink := range lateSinks {
			t.Run("from "+from+" to "+to, func(t *testing.T) {
				dst, all := openSink(t)
				src := open(t, payload)
				dst.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
				var out Counter
				n, err := Copy(NewWriter(dst, &out), src)
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("ended with %v", err)
				}
				got := all()
				if n != int64(len(got)) || out.Count() != n {
					t.Errorf("copied %d, counted %d; the sink has %d", n, out.Count(), len(got))
				}
				sameBytes(t, got, payload[:len(got)])
				checkPipes(t)
			})
		}
	}
}

func TestCopyPanicOfAGate(t *testing.T) {
	panicAt := func(nth int) Gate {
		return testGate{passed: func(_ int, err error) error {
			if nth--; nth == 0 {
				panic("stop")
			}
			return err
		}}
	}
	tests := []struct {
		name    string
		in, out int // the number of the call of Passed that panics
		closes  int // pipes that held something
	}{
		{"between the connection and the file", 1, 0, 1},
		{"between the connection and the file, later", 3, 0, 1},
		{"after the file", 0, 1, 0},
		{"after the file, later", 0, 3, 0},
	}
	for network, open := range networks {
		for _, tt := range tests {
			t.Run(tt.name+", from "+network, func(t *testing.T) {
				checkPipes(t) // which opens all
				files := openFiles(t)
				server, client := open(t)
				done := play(client, says(string(noise(transferSize, 12))), ends)
				f := tempFile(t, 0)
				func() {
					defer func() {
						if recover() == nil {
							t.Error("the panic was lost")
						}
					}()
					Copy(NewWriter(f, panicAt(tt.out)), NewReader(NewReader(server, atMost(2*smallSize)), panicAt(tt.in)))
				}()
				server.Close()
				<-done
				client.Close()
				f.Close()
				if got, want := openFiles(t), files-2*tt.closes; got != want {
					t.Errorf("%d files are open, want %d", got, want)
				}
				checkPipes(t)
				tryOut(t, open)
			})
		}
	}
}

func TestCopyPanicInTheMiddleOfASplice(t *testing.T) {
	for network, open := range networks {
		t.Run(network, func(t *testing.T) {
			server, client := open(t)
			done := play(client, says(string(noise(transferSize, 13))), ends)
			_, w := narrowPipe(t) // takes a part of what comes
			w.SetWriteDeadline(time.Now().Add(patience))
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was lost")
					}
				}()
				Copy(NewWriter(w, testGate{passed: func(int, error) error { panic("stop") }}), server)
			}()
			server.Close()
			<-done
			checkPipes(t)
			tryOut(t, open)
		})
	}
}

// tryOut copies something, to see that it arrives.
func tryOut(t *testing.T, open func(testing.TB) (server, client halfCloser)) {
	t.Helper()
	server, client := open(t)
	done := play(client, says("hello, world"), ends)
	f := tempFile(t, 0)
	if n, err := Copy(f, server); n != 12 || err != nil || string(contentOf(t, f)) != "hello, world" {
		t.Errorf("copied %d, %v: %q", n, err, contentOf(t, f))
	}
	<-done
	server.Close()
	client.Close()
	f.Close()
}

// openFiles returns how many descriptors the process has.
func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Whoever finds no pipe free goes by a buffer.
func TestCopyMoreTransfersThanPipes(t *testing.T) {
	const transfers = 3 * splice.MaxPipes
	type end struct {
		r, w *os.File
		n    int64
		err  error
	}
	var (
		ends     [transfers]end
		payloads [transfers][]byte
		wg       sync.WaitGroup
	)
	used := usedBuffers(t)
	for i := range ends {
		r, w := narrowPipe(t)
		ends[i].r, ends[i].w = r, w
		payloads[i] = noise(transferSize/4+i, byte(i))
		server, client := tcpPair(t)
		send(t, client, payloads[i])
		wg.Go(func() {
			ends[i].n, ends[i].err = Copy(w, server)
			w.Close()
		})
	}
	// Nobody reads, so each transfer is stuck with what it holds.
	await(t, "the others have a buffer", func() bool { return used() >= transfers-splice.MaxPipes })
	for i := range ends {
		wg.Go(func() {
			defer ends[i].r.Close()
			got, err := io.ReadAll(ends[i].r)
			if err != nil {
				t.Error(err)
			}
			sameBytes(t, got, payloads[i])
		})
	}
	wg.Wait()
	for i, e := range ends {
		if e.n != int64(len(payloads[i])) || e.err != nil {
			t.Errorf("transfer %d: %d, %v", i, e.n, e.err)
		}
	}
	checkPipes(t)
}

func TestCopyWaitsWithoutAPipe(t *testing.T) {
	const waiting = 2 * splice.MaxPipes
	var (
		wg      sync.WaitGroup
		clients []halfCloser
		counts  [waiting]Counter
	)
	for i := range waiting {
		server, client := tcpPair(t)
		clients = append(clients, client)
		f := tempFile(t, 0)
		wg.Go(func() {
			if n, err := Copy(NewWriter(f, &counts[i]), server); n != 2 || err != nil {
				t.Errorf("copied %d, %v", n, err)
			}
		})
	}
	for round := int64(1); round <= 2; round++ {
		for _, c := range clients {
			says("x")(c)
		}
		for i := range counts {
			await(t, "connection "+strconv.Itoa(i)+" has been read", func() bool { return counts[i].Count() == round })
		}
		await(t, "no pipe is in use", func() bool { return freePipes(t) == splice.MaxPipes })
	}
	for _, c := range clients {
		ends(c)
	}
	wg.Wait()
	checkPipes(t)
}

// A transfer has what it needs from its beginning: that it goes on for long
// makes no garbage.
func TestCopyZeroCopyAllocations(t *testing.T) {
	for name, dst := range map[string]io.Writer{"to a file": tempFile(t, 0), "to nowhere": io.Discard} {
		t.Run(name, func(t *testing.T) {
			server, client := tcpPair(t)
			done := play(client, func(c net.Conn) error {
				for b := make([]byte, 1000); ; {
					if _, err := c.Write(b); err != nil {
						return nil // it was sent enough
					}
				}
			})
			c := NewConn(server, 1)
			idle := newIdleGate(c, time.Hour)
			tr := newTransfer(NewWriter(dst, new(Counter)), NewReader(NewReader(c.In, idle), atMost(smallSize)))
			defer tr.free()
			if n := testing.AllocsPerRun(500, func() {
				max, err := tr.in.allow(transferSize)
				if err != nil {
					t.Fatal(err)
				}
				n, err := tr.fillKernel(max)
				if err != nil {
					t.Fatal(err)
				}
				if err := tr.flush(n); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations each", n)
			}
			server.Close()
			<-done
		})
	}
}

func TestCopyReset(t *testing.T) {
	for _, s := range sinks {
		t.Run("to "+s.name, func(t *testing.T) {
			dst, content := s.open(t)
			server, client := tcpPair(t)
			c := NewConn(server, 1)
			says("half of it")(client)
			var got Counter
			n, err := Copy(dst, NewReader(c.In, testGate{passed: func(n int, err error) error {
				if got.Passed(n, err); got.Count() == int64(len("half of it")) {
					resets(client)
				}
				return err
			}}))
			if !errors.Is(err, ErrReset) || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("ended with %v", err)
			}
			if n != int64(len("half of it")) {
				t.Errorf("copied %d bytes", n)
			}
			if content != nil {
				sameBytes(t, content(), []byte("half of it"))
			}
			checkPipes(t)
		})
	}
}

// A fast client is read by blocking calls (package fastconn). Nothing that ends a
// connection is any different for it.
func TestCopyFastClient(t *testing.T) {
	payload := noise(1<<20, 19)
	const times = 16
	for name, tt := range map[string]struct {
		end   act
		chain Chain
		want  error
	}{
		"FIN":         {ends, nil, nil},
		"RST":         {resets, nil, ErrReset},
		"silence":     {farewell, Chain{Idle{Limit: time.Second}}, ErrIdle},
		"MaxDuration": {farewell, Chain{MaxDuration{Limit: time.Second}}, ErrTooLong},
		"cancel":      {farewell, nil, ErrShutdown},
	} {
		for to, sink := range map[string]io.Writer{"a file": tempFile(t, 0), "nowhere": io.Discard} {
			t.Run(name+", to "+to, func(t *testing.T) {
				t.Parallel()
				server, client := tcpPair(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := 0
				all := testGate{passed: func(m int, err error) error {
					if n += m; n == times*len(payload) && name == "cancel" {
						cancel()
					}
					return err
				}}
				done := play(client, append(slices.Repeat([]act{says(string(payload))}, times), tt.end)...)
				chain := append(Chain{into(NewWriter(sink, all)), Idle{Limit: patience}}, tt.chain...)
				if err := Serve(ctx, server, 1, chain.Then(Receive)); !errors.Is(err, tt.want) {
					t.Errorf("ended with %v, want %v", err, tt.want)
				}
				if n != times*len(payload) && (tt.want == nil || tt.want == ErrShutdown) {
					t.Errorf("%d bytes arrived", n)
				}
				client.Close()
				<-done
				if f, ok := sink.(*os.File); ok && n == times*len(payload) {
					sameBytes(t, contentOf(t, f), bytes.Repeat(payload, times))
				}
			})
		}
	}
}
