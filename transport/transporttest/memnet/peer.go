package memnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Step is one action of a [Peer] on its end of a connection, such as net.Conn.Close.
type Step func(c net.Conn) error

// Peer is the list of steps that one side of a conversation takes, on any net.Conn.
//
//	memnet.Peer{memnet.Say("half of "), memnet.Pause(time.Minute), memnet.Reset}
//
// A peer without a step that reads, on a [Conn] with a small receive buffer, makes the
// other side's writes wait.
type Peer []Step

// Play takes the steps on c, up to the first that fails. It does not close c itself.
func (p Peer) Play(c net.Conn) error {
	for i, step := range p {
		if err := step(c); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(p), err)
		}
	}
	return nil
}

// Start calls Play on a new goroutine. The caller must call end, which waits for Play and
// returns its error.
func (p Peer) Start(c net.Conn) (end func() error) {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = p.Play(c)
	}()
	return func() error {
		<-done
		return err
	}
}

// Say writes each piece with one Write.
func Say(pieces ...string) Step {
	return func(c net.Conn) error {
		for _, s := range pieces {
			if _, err := io.WriteString(c, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// Hear expects exactly these words, in any number of pieces. It reads nothing after them.
func Hear(words string) Step {
	return func(c net.Conn) error {
		got := make([]byte, len(words))
		for n := 0; n < len(got); {
			m, err := c.Read(got[n:])
			if n += m; string(got[:n]) != words[:n] {
				return fmt.Errorf("heard %q, want %q", got[:n], words)
			}
			if err != nil && n < len(got) {
				return fmt.Errorf("heard %q, want %q: %w", got[:n], words, err)
			}
		}
		return nil
	}
}

// HearAtOnce expects one Read to return exactly these words.
func HearAtOnce(words string) Step {
	return func(c net.Conn) error {
		buf := make([]byte, len(words)+1)
		n, err := c.Read(buf)
		if string(buf[:n]) != words {
			return errors.Join(fmt.Errorf("heard %q in one piece, want %q", buf[:n], words), err)
		}
		return err
	}
}

// HearNothing expects neither bytes nor the end of the stream for d. It clears the read
// deadline.
func HearNothing(d time.Duration) Step {
	return func(c net.Conn) error {
		c.SetReadDeadline(time.Now().Add(d))
		defer c.SetReadDeadline(time.Time{})
		buf := make([]byte, 64)
		if n, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(fmt.Errorf("heard %q, want nothing", buf[:n]), err)
		}
		return nil
	}
}

// Pause sleeps for d. Use it in a bubble of testing/synctest.
func Pause(d time.Duration) Step {
	return func(net.Conn) error {
		time.Sleep(d)
		return nil
	}
}

// HalfClose calls CloseWrite, or Close if c has no CloseWrite.
func HalfClose(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// Reset closes c with a reset, if c has SetLinger.
func Reset(c net.Conn) error {
	setLinger(c, 0)
	return c.Close()
}

// Fin expects the end of the stream, with no bytes before it.
func Fin(c net.Conn) error { return ends(c, io.EOF, "an orderly close (FIN)") }

// Rst expects a reset, with no bytes before it.
func Rst(c net.Conn) error { return ends(c, syscall.ECONNRESET, "a reset (RST)") }

func ends(c net.Conn, want error, how string) error {
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	switch {
	case n > 0:
		return fmt.Errorf("heard %q, want %s", buf[:n], how)
	case !errors.Is(err, want):
		return fmt.Errorf("the end is %w, want %s", err, how)
	}
	return nil
}

// Cut returns c with each Write split into pieces of at most size bytes, size > 0, and a
// pause between pieces. Use a pause over 0 in a bubble of testing/synctest.
func Cut(c net.Conn, size int, pause time.Duration) net.Conn { return &cut{c, size, pause} }

type cut struct {
	net.Conn
	size  int
	pause time.Duration
}

func (c *cut) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if n > 0 && c.pause > 0 {
			time.Sleep(c.pause)
		}
		var m int
		m, err = c.Conn.Write(p[n:min(n+c.size, len(p))])
		n += m
	}
	return n, err
}

func (c *cut) CloseWrite() error { return HalfClose(c.Conn) }

func (c *cut) SetLinger(sec int) error { return setLinger(c.Conn, sec) }

func setLinger(c net.Conn, sec int) error {
	if tcp, ok := c.(interface{ SetLinger(sec int) error }); ok {
		return tcp.SetLinger(sec)
	}
	return nil
}

// Gather returns c with writes held back until a Read, CloseWrite or Close, which sends
// them in one piece. It is not safe for concurrent use.
func Gather(c net.Conn) net.Conn { return &gathered{Conn: c} }

type gathered struct {
	net.Conn
	held []byte
}

func (g *gathered) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *gathered) flush() error {
	if len(g.held) == 0 {
		return nil
	}
	_, err := g.Conn.Write(g.held)
	g.held = nil
	return err
}

func (g *gathered) Read(p []byte) (int, error) {
	if err := g.flush(); err != nil {
		return 0, err
	}
	return g.Conn.Read(p)
}

func (g *gathered) CloseWrite() error { return errors.Join(g.flush(), HalfClose(g.Conn)) }
func (g *gathered) Close() error      { return errors.Join(g.flush(), g.Conn.Close()) }

func (g *gathered) SetLinger(sec int) error { return setLinger(g.Conn, sec) }
