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

// Step is one thing that a [Peer] does on its end of a connection. Any function of
// this kind can be one.
type Step func(c net.Conn) error

// Peer is one side of a conversation, step by step. It works on any net.Conn.
//
//	memnet.Peer{memnet.Say("half of "), memnet.Pause(time.Minute), memnet.Reset}
//
// A peer that never reads is one that does not hear, on a connection with a small
// buffer ([Conn.SetReadBuffer]).
type Peer []Step

// Play takes the steps on c, up to the first that fails. It does not close c, but for a
// step that does.
func (p Peer) Play(c net.Conn) error {
	for i, step := range p {
		if err := step(c); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(p), err)
		}
	}
	return nil
}

// Start plays on a goroutine of its own. end waits for that, and is to be called; it
// returns what Play has.
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

// Say sends each piece in a write of its own.
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

// Hear expects exactly these words, however they are cut, and takes nothing that comes
// after them.
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

// HearAtOnce expects these words in one piece, and nothing with them.
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

// HearNothing expects that nothing comes for so long, and no end either. It leaves no
// read deadline.
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

// Pause does nothing for d: it is for a bubble of testing/synctest.
func Pause(d time.Duration) Step {
	return func(net.Conn) error {
		time.Sleep(d)
		return nil
	}
}

// HalfClose ends the peer's stream, by CloseWrite; it goes on listening. On a
// connection that has none, it closes.
func HalfClose(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// Close closes the connection.
func Close(c net.Conn) error { return c.Close() }

// Reset breaks the connection off, where it knows a reset.
func Reset(c net.Conn) error {
	setLinger(c, 0)
	return c.Close()
}

// Fin waits until the other side closes, and expects that to be orderly, and no word
// before.
func Fin(c net.Conn) error { return ends(c, io.EOF, "an orderly close (FIN)") }

// Rst waits until the other side closes, and expects a reset, and no word before.
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

// Cut returns c with each write cut into pieces of at most size bytes, size > 0, which are
// written with a pause in between: with 1 and a second, a peer that sends a byte a
// second. A pause of more than 0 is for a bubble of testing/synctest.
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

// Gather returns c with what is written held back until a Read, a CloseWrite or a Close
// of it: what a peer says without waiting for an answer comes in one piece then. It is
// for one goroutine.
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
