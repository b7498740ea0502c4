package splice

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// sockets returns the descriptors of two stream sockets that are connected.
func sockets(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
	return fds[0], fds[1]
}

// file returns a file and its descriptor.
func file(t *testing.T, flag int, content string) (*os.File, int) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, int(f.Fd())
}

// tcp calls f with the descriptor of a TCP connection, after send has been called with its
// other end.
func tcp(t *testing.T, send func(c *net.TCPConn), f func(fd int)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	send(client.(*net.TCPConn))
	raw.Read(func(fd uintptr) bool { // waits for it
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	})
	raw.Control(func(fd uintptr) { f(int(fd)) })
}

// take returns a pipe, which is given back when the test ends.
func take(t *testing.T) *Pipe {
	t.Helper()
	p := new(Pipe)
	if !p.Take() {
		t.Fatal("there is no pipe")
	}
	t.Cleanup(p.Free)
	return p
}

func TestPipe(t *testing.T) {
	from, client := sockets(t)
	f, to := file(t, 0, "")
	p := take(t)
	if n, err := p.Fill(from, 100); n != 0 || err != syscall.EAGAIN {
		t.Errorf("filled with nothing: %d, %v", n, err)
	}
	syscall.Write(client, []byte("hello, world"))
	if n, err := p.Fill(from, 5); n != 5 || err != nil || p.Held() != 5 {
		t.Errorf("filled with %d, %v, holds %d", n, err, p.Held())
	}
	if n, err := p.Fill(from, 100); n != 7 || err != nil || p.Held() != 12 {
		t.Errorf("filled with %d, %v, holds %d", n, err, p.Held())
	}
	if n, err := p.Drain(to, 6); n != 6 || err != nil || p.Held() != 6 {
		t.Errorf("drained %d, %v, holds %d", n, err, p.Held())
	}
	b := make([]byte, 100)
	if n, err := p.Read(b[:2]); string(b[:n]) != " w" || err != nil || p.Held() != 4 {
		t.Errorf("read %q, %v, holds %d", b[:n], err, p.Held())
	}
	if n, err := p.Read(b); string(b[:n]) != "orld" || err != nil || p.Held() != 0 {
		t.Errorf("read %q, %v, holds %d", b[:n], err, p.Held())
	}
	if n, err := p.Drain(to, 6); n != 0 || err != syscall.EAGAIN {
		t.Errorf("drained %d of nothing, %v", n, err)
	}
	syscall.Shutdown(client, syscall.SHUT_WR)
	if n, err := p.Fill(from, 100); n != 0 || err != io.EOF {
		t.Errorf("filled at the end: %d, %v", n, err)
	}
	if got, err := os.ReadFile(f.Name()); string(got) != "hello," || err != nil {
		t.Errorf("the file has %q, %v", got, err)
	}
}

func TestPipeErrors(t *testing.T) {
	from, client := sockets(t)
	p := take(t)
	syscall.Write(client, []byte("hello"))
	if _, err := p.Fill(from, 5); err != nil {
		t.Fatal(err)
	}
	_, appends := file(t, os.O_APPEND, "")
	if n, err := p.Drain(appends, 5); n != 0 || err != syscall.EINVAL {
		t.Errorf("to a file that is open for appending: %d, %v", n, err)
	}
	var call *os.SyscallError
	if n, err := p.Drain(-1, 5); n != 0 || !errors.Is(err, syscall.EBADF) || !errors.As(err, &call) || call.Syscall != "splice" {
		t.Errorf("to no descriptor: %d, %v", n, err)
	}
	if p.Held() != 5 {
		t.Errorf("holds %d", p.Held())
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if n, err := take(t).Fill(int(dir.Fd()), 5); n != 0 || err != syscall.EINVAL {
		t.Errorf("from a directory: %d, %v", n, err)
	}
	if n, err := take(t).Fill(-1, 5); n != 0 || !errors.Is(err, syscall.EBADF) {
		t.Errorf("from no descriptor: %d, %v", n, err)
	}
}

func TestPipesAtATime(t *testing.T) {
	var all [MaxPipes]Pipe
	for i := range all {
		for range 2 { // the second time it has one
			if !all[i].Take() {
				t.Fatalf("pipe %d cannot be taken", i+1)
			}
		}
	}
	var more Pipe
	if more.Take() {
		t.Errorf("%d pipes were taken", MaxPipes+1)
	}
	more.Free() // which has none
	all[0].Free()
	if !more.Take() {
		t.Error("none can be taken though one was given back")
	}
	more.Free()
	for i := range all {
		all[i].Free()
	}
	if n := len(pipes.free); n != MaxPipes || pipes.open != MaxPipes {
		t.Errorf("%d of %d pipes are free", n, pipes.open)
	}
}

// Bytes of one transfer never reach another.
func TestPipeThatHoldsBytesIsClosed(t *testing.T) {
	from, client := sockets(t)
	p := take(t)
	free, open := len(pipes.free), pipes.open
	fd := p.pipe.r
	syscall.Write(client, []byte("hello"))
	if n, err := p.Fill(from, 5); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	p.Free()
	if len(pipes.free) != free || pipes.open != open-1 || p.Held() != 0 {
		t.Errorf("%d pipes are free, %d open; want %d, %d", len(pipes.free), pipes.open, free, open-1)
	}
	if _, err := syscall.Read(fd, make([]byte, 1)); err != syscall.EBADF {
		t.Errorf("its descriptor: %v", err)
	}
}

func TestPipeWithoutDescriptors(t *testing.T) {
	for len(pipes.free) > 0 { // Free keeps them
		defer take(t).Free()
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Skip(err)
	}
	open := pipes.open
	taken := new(Pipe).Take()
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	if taken || pipes.open != open {
		t.Errorf("taken: %t; %d pipes are open, were %d", taken, pipes.open, open)
	}
}

func TestReadAndWrite(t *testing.T) {
	a, b := sockets(t)
	p := make([]byte, 100)
	if n, err := Read(a, p); n != 0 || err != syscall.EAGAIN {
		t.Errorf("read nothing: %d, %v", n, err)
	}
	if n, err := Write(b, []byte("hello")); n != 5 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := Read(a, p); string(p[:n]) != "hello" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}
	for err := error(nil); err == nil; _, err = Write(b, make([]byte, MaxSize)) {
	}
	if n, err := Write(b, p); n != 0 || err != syscall.EAGAIN {
		t.Errorf("wrote without room: %d, %v", n, err)
	}
	syscall.Shutdown(a, syscall.SHUT_WR)
	if n, err := Read(b, p); n != 0 || err != io.EOF {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if n, err := Read(-1, p); n != 0 || !errors.Is(err, syscall.EBADF) {
		t.Errorf("read no descriptor: %d, %v", n, err)
	}
}

func TestDiscardAndPeek(t *testing.T) {
	tcp(t, func(c *net.TCPConn) { c.Write([]byte("hello")) }, func(fd int) {
		if more, err := Peek(fd); !more || err != nil {
			t.Errorf("peek: %t, %v", more, err)
		}
		for _, want := range []int{2, 3} {
			if n, err := Discard(fd, want); n != want || err != nil {
				t.Errorf("discarded %d, %v; want %d", n, err, want)
			}
		}
		if n, err := Discard(fd, 9); n != 0 || err != syscall.EAGAIN {
			t.Errorf("discarded nothing: %d, %v", n, err)
		}
		if more, err := Peek(fd); more || err != syscall.EAGAIN {
			t.Errorf("peek at nothing: %t, %v", more, err)
		}
	})
	for name, tt := range map[string]struct {
		end  func(c *net.TCPConn)
		want error
	}{
		"end":   {func(c *net.TCPConn) { c.CloseWrite() }, io.EOF},
		"reset": {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			tcp(t, func(c *net.TCPConn) { c.Write([]byte("x")); tt.end(c) }, func(fd int) {
				Discard(fd, 1)
				if n, err := Discard(fd, 9); n != 0 || !errors.Is(err, tt.want) {
					t.Errorf("discarded %d, %v", n, err)
				}
			})
			tcp(t, func(c *net.TCPConn) { c.Write([]byte("x")); tt.end(c) }, func(fd int) {
				Discard(fd, 1)
				if more, err := Peek(fd); more || !errors.Is(err, tt.want) {
					t.Errorf("peek: %t, %v", more, err)
				}
			})
		})
	}
}

func TestSendfile(t *testing.T) {
	content := string(bytes.Repeat([]byte("0123456789"), 100))
	a, b := sockets(t)
	f, fd := file(t, 0, content)
	f.Seek(5, io.SeekStart)
	got := make([]byte, 2000)
	for _, want := range []string{content[5:100], content[100:]} {
		n, err := Sendfile(a, fd, len(want))
		if n != len(want) || err != nil {
			t.Errorf("sent %d, %v; want %d", n, err, len(want))
		}
		if n, err := Read(b, got); string(got[:n]) != want || err != nil {
			t.Errorf("got %d bytes, %v", n, err)
		}
	}
	if n, err := Sendfile(a, fd, 10); n != 0 || err != nil {
		t.Errorf("at the end of the file: %d, %v", n, err)
	}
	for err := error(nil); err == nil; _, err = Write(a, make([]byte, MaxSize)) {
	}
	f.Seek(0, io.SeekStart)
	if n, err := Sendfile(a, fd, 10); n != 0 || err != syscall.EAGAIN {
		t.Errorf("without room: %d, %v", n, err)
	}
	if n, err := Sendfile(-1, fd, 10); n != 0 || !errors.Is(err, syscall.EBADF) {
		t.Errorf("to no descriptor: %d, %v", n, err)
	}
}

// Signals that keep coming do not extend a call without end.
func TestRetry(t *testing.T) {
	calls := 0
	n, err := retry(func() (int, error) {
		if calls++; calls < maxRetries {
			return 0, syscall.EINTR
		}
		return 7, nil
	})
	if n != 7 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := retry(func() (int, error) { return 0, syscall.EINTR }); n != 0 || err != syscall.EAGAIN {
		t.Errorf("interrupted always: %d, %v", n, err)
	}
}
