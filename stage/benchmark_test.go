package stage

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"testing"
	"time"
)

// What each stage adds to a read or a write is nothing but these: no allocation
// once a connection is under way.

// ready is a connection that always has something, and always takes all.
type ready struct{}

func (ready) Read(p []byte) (int, error)  { return len(p), nil }
func (ready) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkRead(b *testing.B) {
	server, _ := wire()
	c := NewConn(server, 1)
	for _, bm := range []struct {
		name string
		r    io.Reader
	}{
		{"bare", ready{}},
		{"Counter", NewReader(ready{}, new(Counter))},
		{"Idle", NewReader(ready{}, newIdleGate(c, time.Hour))},
		{"MinRate", NewReader(ready{}, &rateGate{socket: c.socket, limit: MinRate{1, time.Hour}, need: 3600})},
		{"six Counters", counters(NewReader(ready{}, new(Counter)), 5)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 1<<10)
			for b.Loop() {
				bm.r.Read(buf)
			}
		})
	}
}

func counters(r io.Reader, n int) io.Reader {
	for range n {
		r = NewReader(r, new(Counter))
	}
	return r
}

func BenchmarkWrite(b *testing.B) {
	for _, bm := range []struct {
		name string
		w    io.Writer
	}{
		{"bare", ready{}},
		{"Counter", NewWriter(ready{}, new(Counter))},
		{"MaxSize", NewWriter(ready{}, &sizeGate{left: math.MaxInt64})},
		{"MinFree", NewWriter(ready{}, &spaceGate{space: &space{MinFree: MinFree{1, func() (int64, error) { return math.MaxInt64, nil }}}})},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 1<<10)
			for b.Loop() {
				bm.w.Write(buf)
			}
		})
	}
}

// talker is one side of a handshake that was said before.
type talker struct {
	*bytes.Reader
	io.Writer
}

func BenchmarkHandshake(b *testing.B) {
	b.ReportAllocs()
	said := bytes.NewReader([]byte(accioConfirm + accioConfirmAgain))
	peer := talker{said, io.Discard}
	for b.Loop() {
		said.Seek(0, io.SeekStart)
		if err := Accio.Run(peer, peer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy moves payload by the ways that Copy has, through the gates of a
// server.
func BenchmarkCopy(b *testing.B) {
	const size = 64 << 20
	for _, bm := range []struct {
		name string
		dst  func(b *testing.B) io.Writer
	}{
		{"to a file", func(b *testing.B) io.Writer {
			f, err := os.Create(b.TempDir() + "/file")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { f.Close() })
			return f
		}},
		{"to nowhere", func(*testing.B) io.Writer { return io.Discard }},
		{"through a buffer", func(*testing.B) io.Writer { return struct{ io.Writer }{io.Discard} }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			payload := make([]byte, 1<<20)
			for b.Loop() {
				server, client := tcpPair(b)
				sent := make(chan error, 1)
				go func() {
					var err error
					for n := 0; n < size && err == nil; n += len(payload) {
						_, err = client.Write(payload)
					}
					sent <- errors.Join(err, client.CloseWrite())
				}()
				dst := bm.dst(b)
				c := NewConn(server, 1)
				r := NewReader(c.In, newIdleGate(c, time.Hour))
				if n, err := Copy(NewWriter(dst, new(Counter)), r); n != size || err != nil {
					b.Fatal(n, err)
				}
				if err := <-sent; err != nil {
					b.Fatal(err)
				}
				server.Close()
				client.Close()
			}
		})
	}
}

// BenchmarkServe serves a connection that has said all before it is accepted.
func BenchmarkServe(b *testing.B) {
	b.ReportAllocs()
	h := Chain{
		Save{Store: newMapStore(), Name: NumberedFile, Mark: ErrorMark},
		Count{},
		Idle{Limit: time.Hour},
		Handshake{Script: Accio},
	}.Then(Receive)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	for b.Loop() {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(client, accioConfirm+accioConfirmAgain+"payload")
		client.(*net.TCPConn).CloseWrite()
		conn, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if err := Serve(b.Context(), conn, 1, h); err != nil {
			b.Fatal(err)
		}
		client.Close()
	}
}
