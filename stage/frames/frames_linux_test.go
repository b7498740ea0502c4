package frames

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// bufferSize is how much Frames reads ahead.
const bufferSize = 64 << 10

// patience bounds a wait that ends by itself unless the test fails.
const patience = 10 * time.Second

// tcpPair returns the two ends of a TCP connection.
func tcpPair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

// fileStore is a store of files that are visible while they are written.
type fileStore struct {
	dir     string
	written int // bytes that passed through Write
}

func (s *fileStore) Create(_ context.Context, name string) (stage.Pending, error) {
	f, err := os.Create(filepath.Join(s.dir, name))
	return &pendingFile{f, s}, err
}

func (s *fileStore) Remove(name string) error { return os.Remove(filepath.Join(s.dir, name)) }

type pendingFile struct {
	f *os.File
	s *fileStore
}

func (p *pendingFile) Write(b []byte) (int, error) {
	p.s.written += len(b)
	return p.f.Write(b)
}

func (p *pendingFile) File() *os.File { return p.f }
func (p *pendingFile) Commit() error  { return p.f.Close() }
func (p *pendingFile) Abort() error   { return p.f.Close() }

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// sizedFrames returns payloads, each after its length.
func sizedFrames(payloads ...[]byte) string {
	var all []byte
	for _, p := range payloads {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(p))), p...)
	}
	return string(all)
}

// The kernel moves the part of a large frame that was not read ahead, and the next frame
// begins where it ends.
func TestFramesZeroCopy(t *testing.T) {
	payloads := [][]byte{noise(100, 1), noise(2<<20+77, 2), {}, noise(5, 3), noise(1<<20, 4), noise(1, 5)}
	for _, gate := range []bool{false, true} {
		t.Run(fmt.Sprint("gates in each frame ", gate), func(t *testing.T) {
			store := &fileStore{dir: t.TempDir()}
			chain := stage.Chain{
				stage.Count{}, stage.Idle{Limit: patience},
				Frames{Split: LengthPrefix(4, binary.BigEndian)},
				stage.Save{Store: store, Name: frameName},
			}
			if gate {
				chain = append(chain, stage.Idle{Limit: patience}, stage.MaxSize{Bytes: 1 << 30}, stage.Count{})
			}
			server, client := tcpPair(t)
			end := memnet.Peer{memnet.Say(sizedFrames(payloads...)), memnet.HalfClose, memnet.Fin}.Start(client)
			if err := stage.Serve(t.Context(), server, 1, chain.Then(stage.Receive)); err != nil {
				t.Error(err)
			}
			if err := end(); err != nil {
				t.Errorf("the client: %v", err)
			}
			for i, want := range payloads {
				got, err := os.ReadFile(filepath.Join(store.dir, fmt.Sprint("1-", i+1)))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("frame %d has %d bytes, want %d (%v)", i+1, len(got), len(want), err)
				}
			}
			if most := len(payloads)*bufferSize + 1000; store.written > most {
				t.Errorf("the process wrote %d bytes itself, more than %d", store.written, most)
			}
		})
	}
}

// largest is a gate that notes the largest transfer.
type largest struct{ n int }

func (*largest) Allow(max int) (int, error) { return max, nil }

func (g *largest) Passed(n int, err error) error {
	g.n = max(g.n, n)
	return err
}

// The kernel drops what the handler leaves unread of a frame: one transfer is larger than
// any buffer.
func TestFramesSkipZeroCopy(t *testing.T) {
	server, client := tcpPair(t)
	var transfers largest
	look := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.In = stage.NewReader(c.In, &transfers)
		return nil, nil
	})
	end := memnet.Peer{memnet.Say(sizedFrames(noise(2<<20, 1), []byte("x"))), memnet.HalfClose, memnet.Fin}.Start(client)
	var last []byte
	h := stage.Chain{look, Frames{Split: LengthPrefix(4, binary.BigEndian)}}.Then(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) (err error) {
		if c.Frame == 1 {
			return waitForBytes(c.Net, bufferSize+1)
		}
		last, err = io.ReadAll(c.In)
		return err
	}))
	if err := stage.Serve(t.Context(), server, 1, h); err != nil || string(last) != "x" {
		t.Errorf("the last frame is %q, ended with %v", last, err)
	}
	if err := end(); err != nil {
		t.Errorf("the client: %v", err)
	}
	if transfers.n <= bufferSize {
		t.Errorf("the largest transfer has %d bytes", transfers.n)
	}
}

// waitForBytes returns when n bytes can be read from nc.
func waitForBytes(nc net.Conn, n int) error {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		var got int
		got, _, rerr = syscall.Recvfrom(int(fd), make([]byte, n), syscall.MSG_PEEK)
		return got == n || rerr != nil && rerr != syscall.EAGAIN
	})
	if rerr != nil {
		err = rerr
	}
	return err
}

// A connection holds a buffer only while bytes are in it.
func TestFramesBuffer(t *testing.T) {
	server, client := tcpPair(t)
	var r *reader
	waited := false
	frames := 0
	h := Frames{Split: Delimiter("\r\n")}.Wrap(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		frames++
		r = c.In.(*reader)
		if frames == 3 {
			d := c.NewDeadline(func(time.Time) (time.Time, error) {
				waited = true
				if r.free != nil {
					t.Error("a connection that waits holds a buffer")
				}
				return time.Time{}, os.ErrDeadlineExceeded
			})
			d.SetReadDeadline(time.Now().Add(time.Millisecond))
		}
		_, err := io.ReadAll(c.In)
		if len(r.held) == 0 && r.free != nil {
			t.Errorf("a buffer without bytes is held after frame %d", frames)
		}
		return err
	}))
	end := memnet.Peer{memnet.Say("a\r\nb\r\nc\r"), memnet.Rst}.Start(client)
	err := stage.Serve(t.Context(), server, 1, h)
	if r.free != nil || err == nil || frames != 3 || !waited {
		t.Errorf("ended with %v after %d frames; waited: %t; holds a buffer: %t", err, frames, waited, r.free != nil)
	}
	if err := end(); err != nil {
		t.Errorf("the client: %v", err)
	}
}
