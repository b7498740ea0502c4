package fastconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// patience bounds what ends by itself unless there is a fault.
const patience = 10 * time.Second

// pair returns a Conn and its client.
func pair(t *testing.T) (c *Conn, client *net.TCPConn) {
	t.Helper()
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(procs, 2)) // or none would block
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, client = New(server).(*Conn), nc.(*net.TCPConn)
	client.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() {
		client.Close()
		c.Close()
		runtime.GOMAXPROCS(procs)
	})
	return c, client
}

// leave makes c leave the poller.
func leave(t *testing.T, c *Conn) {
	t.Helper()
	c.leavePoller()
	if !blocks(c) {
		t.Fatal("the connection has not left the poller")
	}
}

// blocks reports whether c is read by blocking calls.
func blocks(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fd >= 0
}

// read reads by a call of the raw connection. The end is io.EOF.
func read(c *Conn, p []byte) (n int, err error) {
	raw, _ := c.SyscallConn()
	cerr := raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	c.Received(n)
	return n, nil
}

// rawReader reads c by raw calls.
type rawReader struct{ c *Conn }

func (r rawReader) Read(p []byte) (int, error) { return read(r.c, p) }

// descriptors counts the descriptors of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestNewOfOthers(t *testing.T) {
	server, _ := memnet.Pair()
	if New(server) != net.Conn(server) {
		t.Error("it has become another connection")
	}
}

// The connection leaves the poller and comes back again and again, with all bytes and no
// more descriptors.
func TestConnLeavesAndReturns(t *testing.T) {
	before := descriptors(t)
	c, client := pair(t)
	addrs := fmt.Sprint(c.LocalAddr(), c.RemoteAddr())
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	for range 3 {
		sent := make(chan error, 1)
		go func() {
			_, err := client.Write(payload)
			sent <- err
		}()
		leave(t, c)
		got := make([]byte, len(payload))
		if _, err := io.ReadFull(rawReader{c}, got); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%v, or other bytes", err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		// The pause ends that.
		go client.Write([]byte("x"))
		if _, err := io.ReadFull(c, got[:1]); err != nil || got[0] != 'x' {
			t.Errorf("after a pause: %q, %v", got[:1], err)
		}
		if blocks(c) {
			t.Error("after a pause it still blocks")
		}
		rawConn{c}.Control(func(fd uintptr) {
			if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT); n != 1 || err != nil {
				t.Errorf("it is woken by %d bytes, %v", n, err)
			}
		})
		if _, err := io.WriteString(c, "thanks"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(client, got[:6]); err != nil || string(got[:6]) != "thanks" {
			t.Errorf("the client got %q, %v", got[:6], err)
		}
		if now := fmt.Sprint(c.LocalAddr(), c.RemoteAddr()); now != addrs {
			t.Errorf("the addresses are %s, were %s", now, addrs)
		}
	}
	c.Close()
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client saw %v", err)
	}
	client.Close()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, want %d", after, before)
	}
}

func TestConnEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(c *Conn, client *net.TCPConn)
		want error
	}{
		"FIN":      {func(_ *Conn, client *net.TCPConn) { client.CloseWrite() }, io.EOF},
		"RST":      {func(_ *Conn, client *net.TCPConn) { memnet.Reset(client) }, syscall.ECONNRESET},
		"close":    {func(c *Conn, _ *net.TCPConn) { c.Close() }, net.ErrClosed},
		"deadline": {func(c *Conn, _ *net.TCPConn) { c.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
		"past":     {func(c *Conn, _ *net.TCPConn) { c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		for _, when := range []string{"before a call", "during a call", "after a pause"} {
			t.Run(name+" "+when, func(t *testing.T) {
				before := descriptors(t)
				c, client := pair(t)
				leave(t, c)
				reading := func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.reading }
				ended := make(chan error, 1)
				begin := func() { go func() { _, err := read(c, make([]byte, 1)); ended <- err }() }
				switch when {
				case "during a call":
					begin()
					for !reading() && blocks(c) { // or it is back by now
						runtime.Gosched()
					}
				case "after a pause":
					begin()
					for blocks(c) {
						runtime.Gosched()
					}
				}
				tt.end(c, client)
				if when == "before a call" {
					begin()
				}
				if err := <-ended; !errors.Is(err, tt.want) {
					t.Errorf("ended with %v, want %v", err, tt.want)
				}
				c.Close()
				client.Close()
				if after := descriptors(t); after != before {
					t.Errorf("%d descriptors are open, want %d", after, before)
				}
			})
		}
	}
}

func TestConnLinger(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		for sec, want := range map[int]error{0: syscall.ECONNRESET, -1: io.EOF} {
			c, client := pair(t)
			if err := c.SetLinger(0); err != nil {
				t.Error(err)
			}
			if blocking {
				leave(t, c)
			}
			if err := c.SetLinger(sec); err != nil {
				t.Error(err)
			}
			c.Close()
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("blocking %t, linger %d: the client saw %v", blocking, sec, err)
			}
		}
	}
}

// A writer waits for the end of a blocking call, and its reader makes way for it.
func TestConnWriter(t *testing.T) {
	for name, write := range map[string]func(c *Conn) error{
		"Write": func(c *Conn) error { _, err := io.WriteString(c, "word"); return err },
		"raw": func(c *Conn) (err error) {
			raw, _ := c.SyscallConn()
			cerr := raw.Write(func(fd uintptr) bool { _, err = syscall.Write(int(fd), []byte("word")); return true })
			return errors.Join(cerr, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, client := pair(t)
			leave(t, c)
			inside, goOn, called := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				called <- rawConn{c}.Read(func(uintptr) bool {
					close(inside)
					<-goOn
					return true
				})
			}()
			<-inside
			wrote := make(chan error, 1)
			go func() { wrote <- write(c) }()
			for c.writers.Load() == 0 {
				runtime.Gosched()
			}
			close(goOn)
			if err := errors.Join(<-called, <-wrote); err != nil {
				t.Error(err)
			}
			if blocks(c) {
				t.Error("it still blocks")
			}
			got := make([]byte, 4)
			if _, err := io.ReadFull(client, got); err != nil || string(got) != "word" {
				t.Errorf("the client got %q, %v", got, err)
			}
		})
	}
}

func TestConnWhileItIsWrittenTo(t *testing.T) {
	c, _ := pair(t)
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if c.leavePoller(); blocks(c) {
		t.Error("it has left the poller")
	}
}

// At most half of the processors are used by blocking calls.
func TestConnsAtATime(t *testing.T) {
	var conns []*Conn
	for range 8 {
		c, _ := pair(t)
		conns = append(conns, c)
	}
	count := func() (n int) {
		for _, c := range conns {
			c.leavePoller()
		}
		for _, c := range conns {
			if blocks(c) {
				n++
			}
		}
		return n
	}
	want := min(int(maxBlockers()), len(conns))
	if n := count(); n != want {
		t.Errorf("%d block, want %d", n, want)
	}
	conns[0].Close() // it is one of them
	if conns = conns[1:]; count() != min(want, len(conns)) {
		t.Error("none has taken the place of one that is closed")
	}
}

func TestConnWithoutDescriptors(t *testing.T) {
	c, client := pair(t)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Skip(err)
	}
	c.leavePoller()
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	if blocks(c) {
		t.Error("it has left the poller")
	}
	client.Write([]byte("x"))
	if n, err := read(c, make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

// If a program has closed its standard output, a connection does not become that: a write to
// it would end the program by SIGPIPE.
func TestConnIsNoStandardOutput(t *testing.T) {
	c, _ := pair(t)
	in, err := syscall.Dup(0)
	if err != nil {
		t.Skip(err)
	}
	defer func() {
		syscall.Dup3(in, 0, syscall.O_CLOEXEC)
		syscall.Close(in)
	}()
	syscall.Close(0)
	leave(t, c)
	if c.fd < 3 {
		t.Errorf("it has descriptor %d", c.fd)
	}
}

func TestConnPanic(t *testing.T) {
	c, client := pair(t)
	leave(t, c)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		rawConn{c}.Read(func(uintptr) bool { panic("stop") })
	}()
	if blocks(c) {
		t.Error("it still blocks")
	}
	client.Write([]byte("x"))
	if n, err := read(c, make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("then read %d, %v", n, err)
	}
}

func TestConnMeter(t *testing.T) {
	const piece = fastSize / 8
	for name, tt := range map[string]struct {
		pause time.Duration // after each piece
		fast  bool
	}{
		"fast":            {fastTime/8 - 1, true},
		"just not fast":   {fastTime / 8, false},
		"much too slow":   {time.Second, false},
		"fast as it gets": {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := pair(t)
			synctest.Test(t, func(t *testing.T) {
				for range 100 {
					c.Received(piece)
					time.Sleep(tt.pause)
				}
				if blocks(c) != tt.fast {
					t.Errorf("it blocks: %t", blocks(c))
				}
			})
		})
	}
}

// A client that pauses again and again is left to the poller for longer and longer.
func TestConnMeterAfterPauses(t *testing.T) {
	c, _ := pair(t)
	synctest.Test(t, func(t *testing.T) {
		for _, want := range []int{1, 8, 64, 512} {
			n := 0
			for ; !blocks(c); n++ {
				c.Received(fastSize)
			}
			if n < want || n > want+2 {
				t.Errorf("it blocks after %d times %d bytes, want %d", n, fastSize, want)
			}
			pauses := 0
			rawConn{c}.Read(func(uintptr) bool { pauses++; return pauses > 1 })
		}
	})
}

// Anything may happen at the same time.
func TestConnIsSafeForConcurrentUse(t *testing.T) {
	before := descriptors(t)
	for range 20 {
		c, client := pair(t)
		var using, client2 sync.WaitGroup
		client2.Go(func() { io.Copy(io.Discard, client) })
		client2.Go(func() {
			for payload := []byte(strings.Repeat("x", 1<<16)); ; {
				if _, err := client.Write(payload); err != nil {
					return
				}
			}
		})
		fails := func(do func() error) {
			using.Go(func() {
				for {
					err := do()
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error(err)
						return
					}
				}
			})
		}
		buf := make([]byte, 1<<16)
		fails(func() error {
			c.leavePoller()
			_, err := read(c, buf)
			return err
		})
		fails(func() error { _, err := c.Write([]byte("x")); return err })
		fails(func() error { return c.SetReadDeadline(time.Now().Add(time.Millisecond)) })
		fails(func() error { return rawConn{c}.Control(func(uintptr) {}) })
		for range 200 {
			c.SetDeadline(time.Time{})
			runtime.Gosched()
		}
		c.Close()
		using.Wait()
		client.Close()
		client2.Wait()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, want %d", after, before)
	}
}
