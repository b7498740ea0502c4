package stage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// sizedFrames is payloads, each after its length.
func sizedFrames(payloads ...[]byte) (all []byte) {
	for _, p := range payloads {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(p))), p...)
	}
	return all
}

// What of a large frame was not read ahead is moved by the kernel, and the frame after
// it begins where it ends.
func TestTheKernelMovesLargeFrames(t *testing.T) {
	payloads := [][]byte{noise(100, 1), noise(2*transferSize+77, 2), {}, noise(5, 3), noise(transferSize, 4), noise(1, 5)}
	for _, gate := range []bool{false, true} {
		t.Run(fmt.Sprint("with a gate before each frame: ", gate), func(t *testing.T) {
			store := &fileStore{dir: t.TempDir()}
			chain := Chain{
				Count{}, Idle{Limit: patience},
				Frames{Split: LengthPrefix(4, binary.BigEndian)},
				Save{Store: store, Name: numberedFrame},
			}
			if gate {
				chain = append(chain, Idle{Limit: patience}, MaxSize{Bytes: 1 << 30}, Count{})
			}
			server, client := tcpPair(t)
			done := play(client, says(string(sizedFrames(payloads...))), ends, farewell)
			if err := Serve(t.Context(), server, 1, chain.Then(Receive)); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Errorf("the peer: %v", err)
			}
			for i, want := range payloads {
				got, err := os.ReadFile(filepath.Join(store.dir, fmt.Sprint("1-", i+1)))
				if err != nil {
					t.Fatal(err)
				}
				sameBytes(t, got, want)
			}
			if most := int64(len(payloads)*bufferSize + 1000); store.written > most {
				t.Errorf("the process has written %d bytes itself, more than %d", store.written, most)
			}
			checkPipes(t)
		})
	}
}

// What a handler has not read of a frame does not enter the process: at once goes more
// than a buffer takes.
func TestTheKernelSkipsLargeFrames(t *testing.T) {
	server, client := tcpPair(t)
	most := 0
	look := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.In = NewReader(c.In, testGate{passed: func(n int, err error) error {
			most = max(most, n)
			return err
		}})
		return nil, nil
	})
	done := play(client, says(string(sizedFrames(noise(2<<20, 1), []byte("x")))), ends, farewell)
	var last string
	frames := 0
	err := Serve(t.Context(), server, 1, Chain{look, Frames{Split: LengthPrefix(4, binary.BigEndian)}}.Then(HandlerFunc(func(_ context.Context, c *Conn) error {
		if frames++; frames == 1 {
			raw, err := c.Net.(*net.TCPConn).SyscallConn()
			if err != nil {
				return err
			}
			await(t, "much has come", func() bool {
				n := 0
				raw.Control(func(fd uintptr) { n, _, _ = syscall.Recvfrom(int(fd), dropped[:], syscall.MSG_PEEK|syscall.MSG_TRUNC) })
				return n > bufferSize
			})
			return nil
		}
		b, err := io.ReadAll(c.In)
		last = string(b)
		return err
	})))
	if err != nil || frames != 2 || last != "x" {
		t.Errorf("%d frames, the last is %q, ended with %v", frames, last, err)
	}
	if err := <-done; err != nil {
		t.Errorf("the peer: %v", err)
	}
	if most <= bufferSize {
		t.Errorf("%d bytes at once at the most", most)
	}
}

// A connection holds a buffer only while there is something in it.
func TestFramesThatWaitHoldNoBuffer(t *testing.T) {
	server, client := tcpPair(t)
	var f *framer
	waited, frames := false, 0
	look := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.In = NewReader(c.In, testGate{passed: func(_ int, err error) error {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				waited = true
				if f.t.buf != nil {
					t.Error("a buffer was held by one that waited")
				}
			}
			return err
		}})
		return nil, nil
	})
	h := Frames{Split: Delimiter("\n")}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
		frames++
		_, err := io.ReadAll(c.In)
		f = c.In.(*framer)
		if has, holds := len(f.held) > 0, f.t.buf != nil; has != holds {
			t.Errorf("frame %d: something is left: %t, and a buffer is held: %t", frames, has, holds)
		}
		if frames == 4 {
			c.NewDeadline().SetReadDeadline(time.Now().Add(time.Millisecond))
		}
		return err
	}))
	done := play(client, says("a\nb\n"), says("c\nd"), says("\n"))
	if err := Serve(t.Context(), server, 1, look.Wrap(h)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	if err := <-done; err != nil || frames != 4 || !waited {
		t.Errorf("the peer: %v, after %d frames; waited: %t", err, frames, waited)
	}
}
