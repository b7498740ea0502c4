package memnet

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
)

var networks = []struct {
	name string
	pair func(t *testing.T) (a, b Conn)
}{
	{"in memory", func(*testing.T) (a, b Conn) {
		s, c := Pair()
		return s, c
	}},
	{"over TCP", func(t *testing.T) (a, b Conn) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s.(Conn), c.(Conn)
	}},
}

// word says what a call has come to.
func word(err error) string {
	causes := []error{os.ErrDeadlineExceeded, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN}
	names := []string{"late", "closed", "reset", "broken pipe", "not connected"}
	for i, cause := range causes {
		if errors.Is(err, cause) {
			if _, ok := err.(*net.OpError); !ok {
				return fmt.Sprintf("%s, but no OpError: %T", names[i], err)
			}
			return names[i]
		}
	}
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// What is done at one end, one after the other, and what it has come to at that end
// and at the other, has to be the same as over TCP on Linux, from where it is taken.
func TestConn(t *testing.T) {
	read := func(c Conn) string {
		buf := make([]byte, 16)
		n, err := c.Read(buf)
		if n > 0 {
			return fmt.Sprintf("%q", buf[:n])
		}
		return word(err)
	}
	write := func(c Conn) string { _, err := c.Write([]byte("x")); return word(err) }
	halfClose := func(c Conn) string { return word(c.CloseWrite()) }
	closes := func(c Conn) string { return word(c.Close()) }
	resets := func(c Conn) string { c.SetLinger(0); return word(c.Close()) }
	past := func(c Conn) string { return word(c.SetDeadline(time.Unix(1, 0))) }
	never := func(c Conn) string { return word(c.SetDeadline(time.Time{})) }
	linger := func(c Conn) string { return word(c.SetLinger(-1)) }
	type act struct {
		end  string // "a" or "b"
		do   func(Conn) string
		want string
	}
	tests := []struct {
		name string
		acts []act
	}{
		{"bytes, and the end of a stream", []act{
			{"a", write, "ok"}, {"a", halfClose, "ok"}, {"b", read, `"x"`}, {"b", read, "EOF"}, {"b", read, "EOF"},
			{"a", write, "broken pipe"}, {"b", write, "ok"}, {"a", read, `"x"`}, {"a", halfClose, "ok"},
			{"b", closes, "ok"}, {"a", read, "EOF"}, {"a", closes, "ok"}}},
		{"a close", []act{
			{"a", write, "ok"}, {"a", closes, "ok"}, {"b", read, `"x"`}, {"b", read, "EOF"},
			{"a", read, "closed"}, {"a", write, "closed"}, {"a", closes, "closed"}, {"a", halfClose, "closed"},
			{"a", past, "closed"}, {"a", linger, "closed"}}},
		{"a write after a close, and then another", []act{
			{"a", closes, "ok"}, {"b", write, "ok"}, {"b", write, "broken pipe"}, {"b", write, "broken pipe"}, {"b", read, "EOF"}}},
		{"a write after a close, and then a read", []act{
			{"a", closes, "ok"}, {"b", write, "ok"}, {"b", read, "EOF"}, {"b", read, "EOF"}, {"b", write, "broken pipe"}}},
		{"a reset, and then reads", []act{
			{"a", resets, "ok"}, {"b", read, "reset"}, {"b", read, "EOF"}, {"b", write, "broken pipe"}, {"b", closes, "ok"}}},
		{"a reset, and then writes", []act{
			{"a", resets, "ok"}, {"b", write, "reset"}, {"b", write, "broken pipe"}, {"b", read, "EOF"}}},
		{"a reset after bytes", []act{
			{"a", write, "ok"}, {"a", resets, "ok"}, {"b", read, `"x"`}, {"b", read, "reset"}, {"b", halfClose, "not connected"}}},
		{"a reset after the end of the stream", []act{
			{"a", halfClose, "ok"}, {"b", read, "EOF"}, {"a", resets, "ok"}, {"b", write, "broken pipe"}, {"b", read, "EOF"}}},
		{"a close with bytes unread", []act{
			{"b", write, "ok"}, {"a", closes, "ok"}, {"b", read, "reset"}}},
		{"a close with bytes read", []act{
			{"b", write, "ok"}, {"a", read, `"x"`}, {"a", closes, "ok"}, {"b", read, "EOF"}}},
		{"a deadline that has passed", []act{
			{"a", write, "ok"}, {"b", past, "ok"}, {"b", read, "late"}, {"b", write, "late"}, {"b", never, "ok"}, {"b", read, `"x"`}}},
	}
	for _, network := range networks {
		if _, tcp := network.pair, network.name == "over TCP"; tcp && runtime.GOOS != "linux" {
			continue // it is Linux that a Conn is like
		}
		for _, test := range tests {
			t.Run(test.name+", "+network.name, func(t *testing.T) {
				a, b := network.pair(t)
				for i, act := range test.acts {
					end := a
					if act.end == "b" {
						end = b
					}
					if got := act.do(end); got != act.want {
						t.Errorf("act %d, at %s: %s, want %s", i+1, act.end, got, act.want)
					}
				}
			})
		}
	}
}

func TestConnPieces(t *testing.T) {
	a, b := Pair()
	Peer{Say("one", "", "three"), HalfClose}.Play(Cut(a, 4, 0))
	var got []string
	for buf := make([]byte, 100); ; {
		n, err := b.Read(buf)
		if err != nil {
			break
		}
		got = append(got, string(buf[:n]))
	}
	if want := "one|thre|e"; strings.Join(got, "|") != want {
		t.Errorf("read %q, want %s", got, want)
	}
}

func TestConnFullBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pair()
		b.SetReadBuffer(10)
		a.SetWriteDeadline(time.Now().Add(time.Hour))
		start := time.Now()
		n, err := a.Write(make([]byte, 25))
		if n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("it wrote %d, %v, in %v", n, err, time.Since(start))
		}
		a.SetWriteDeadline(time.Time{})
		end := Peer{Say(strings.Repeat("x", 25)), HalfClose}.Start(a)
		synctest.Wait()
		if got, err := io.ReadAll(b); len(got) != 35 || err != nil {
			t.Errorf("read %d, %v", len(got), err)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// Whoever waits, for whatever, learns of a change.
func TestConnWait(t *testing.T) {
	changes := map[string]struct {
		do          func(here, there Conn)
		read, write string
	}{
		"a deadline":              {func(here, _ Conn) { here.SetDeadline(time.Now().Add(time.Hour)) }, "late", "late"},
		"a deadline in the past":  {func(here, _ Conn) { here.SetDeadline(time.Unix(1, 0)) }, "late", "late"},
		"one that is moved":       {func(here, _ Conn) { here.SetDeadline(time.Now().Add(time.Hour)); here.SetDeadline(time.Now()) }, "late", "late"},
		"a close":                 {func(here, _ Conn) { here.Close() }, "closed", "closed"},
		"a reset":                 {func(_, there Conn) { Reset(there) }, "reset", "broken pipe"}, // whoever asks first is told
		"a reset and no deadline": {func(here, there Conn) { here.SetDeadline(time.Time{}); Reset(there) }, "reset", "broken pipe"},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := Pair()
				var read, write error
				var wg sync.WaitGroup
				wg.Go(func() { _, read = here.Read(make([]byte, 1)) })
				wg.Go(func() { _, write = here.Write(make([]byte, bufferSize+1)) })
				synctest.Wait()
				change.do(here, there)
				wg.Wait()
				got := []string{word(read), word(write)}
				if got[0] == "EOF" { // the writer was told
					got = []string{"reset", "broken pipe"}
				}
				if got[0] != change.read || got[1] != change.write {
					t.Errorf("the read ended %s, the write %s", got[0], got[1])
				}
			})
		})
	}
}

func TestConnAllocations(t *testing.T) {
	a, b := Pair()
	a.Write(make([]byte, 2000))
	buf := make([]byte, 1)
	if n := testing.AllocsPerRun(1000, func() {
		if n, err := b.Read(buf); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
}

func TestConnConcurrentUse(t *testing.T) {
	a, b := Pair()
	a.SetReadBuffer(100)
	b.SetReadBuffer(100)
	const writers, each = 8, 5000
	for _, c := range [][2]Conn{{a, b}, {b, a}} {
		var got bytes.Buffer
		var writing, reading sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				for range each / 50 {
					c[0].SetWriteDeadline(time.Now().Add(time.Hour))
					if _, err := c[0].Write(bytes.Repeat([]byte{byte(i)}, 50)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		reading.Go(func() { io.Copy(&got, c[1]) })
		writing.Wait()
		c[0].CloseWrite()
		reading.Wait()
		for i := range writers {
			if n := bytes.Count(got.Bytes(), []byte{byte(i)}); n != each {
				t.Errorf("%d bytes of %d have come", n, each)
			}
		}
	}
}
