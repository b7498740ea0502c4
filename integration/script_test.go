//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The words of the protocol.
const (
	greeting = "accio\r\n"
	confirm  = "confirm-accio\r\n"
	again    = "confirm-accio-again\r\n\r\n"
	header   = confirm + again
)

// client is a scripted client. Each step of a script does nothing if one before
// it has failed; the last one, or err, tells:
//
//	err := connect(port).hear(greeting).send(confirm).hear(greeting).send(again, payload).halfClose().fin()
type client struct {
	conn  *net.TCPConn
	port  int
	name  string // its own address
	err   error
	end   ending    // how the connection has ended, if it has
	heard time.Time // when it has heard something last
}

// ending is how a client sees the server close.
type ending string

const (
	fin ending = "an orderly close (FIN)"
	rst ending = "a reset (RST)"
)

// connect connects to a server on this machine. Whether the server accepts is
// another matter.
func connect(port int) *client { return connectTo("127.0.0.1", port) }

func connectTo(host string, port int) *client {
	c := &client{port: port, name: "a client"}
	conn, err := net.DialTimeout("tcp4", net.JoinHostPort(host, strconv.Itoa(port)), patience)
	if err != nil {
		return c.fail("connecting", err)
	}
	c.conn = conn.(*net.TCPConn)
	c.name = fmt.Sprintf("client %v", conn.LocalAddr())
	return c
}

func (c *client) fail(doing string, err error) *client {
	c.err = fmt.Errorf("%s, %s: %w", c.name, doing, err)
	if c.conn != nil {
		c.conn.Close()
	}
	return c
}

// must fails the test if the script has failed.
func (c *client) must(t *testing.T) *client {
	t.Helper()
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c
}

// hear expects exactly this word, in one read and with nothing after it.
func (c *client) hear(want string) *client {
	if c.err != nil {
		return c
	}
	got, err := c.read(patience)
	switch {
	case err != nil:
		c.fail(fmt.Sprintf("expecting %q", want), err)
	case string(got) != want:
		c.fail(fmt.Sprintf("expecting %q", want), fmt.Errorf("got %q", got))
	}
	return c
}

// hearAll expects exactly these bytes, however they are cut.
func (c *client) hearAll(want string) *client {
	for got := ""; c.err == nil && got != want; {
		b, err := c.read(patience)
		got += string(b)
		switch {
		case err != nil:
			c.fail(fmt.Sprintf("expecting %q after %q", want, got), err)
		case !strings.HasPrefix(want, got):
			c.fail(fmt.Sprintf("expecting %q", want), fmt.Errorf("got %q", got))
		}
	}
	return c
}

// greet takes the client through the handshake, step by step.
func (c *client) greet() *client {
	return c.hear(greeting).send(confirm).hear(greeting).send(again)
}

// quiet expects that nothing comes for a while, and no end either.
func (c *client) quiet(d time.Duration) *client {
	if c.err != nil {
		return c
	}
	got, err := c.read(d)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.fail("expecting nothing", fmt.Errorf("got %q, %v", got, err))
	}
	return c
}

// waiting expects that nothing has come so far.
func (c *client) waiting() *client {
	if c.err == nil {
		if n := c.pending(); n != -1 {
			c.fail("expecting nothing", fmt.Errorf("%d bytes, or the end, have come", n))
		}
	}
	return c
}

func (c *client) read(within time.Duration) ([]byte, error) {
	var buf [1024]byte
	c.conn.SetReadDeadline(time.Now().Add(within))
	n, err := c.conn.Read(buf[:])
	c.heard = time.Now()
	return buf[:n], err
}

// pending is how many bytes have come that were not read yet.
func (c *client) pending() (n int) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return -1
	}
	// A look at what is there, without taking it.
	var buf [1024]byte
	raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n
}

// send sends each piece in a write of its own.
func (c *client) send(pieces ...string) *client {
	for _, s := range pieces {
		if c.err != nil || c.end != "" {
			return c
		}
		c.write([]byte(s))
	}
	return c
}

// sendApart sends each piece when the server has taken the one before.
func (c *client) sendApart(pieces ...string) *client {
	for _, s := range pieces {
		c.send(s).taken()
	}
	return c
}

// pour sends a block n times.
func (c *client) pour(n int, block []byte) *client {
	for ; n > 0 && c.err == nil && c.end == ""; n-- {
		c.write(block)
	}
	return c
}

func (c *client) write(b []byte) {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(b)
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		c.end = rst // to be asked for later: a reset is told only once
	case err != nil:
		c.fail(fmt.Sprintf("sending %d bytes", len(b)), err)
	}
}

// sendUrgent sends a byte out of band, as TCP calls it.
func (c *client) sendUrgent(b string) *client {
	if c.err != nil || c.end != "" {
		return c
	}
	raw, err := c.conn.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { _, err = syscall.SendmsgN(int(fd), []byte(b), nil, nil, syscall.MSG_OOB) })
	}
	if err != nil {
		c.fail("sending an urgent byte", err)
	}
	return c
}

// taken waits until the server has read all that was sent so far.
func (c *client) taken() *client {
	if c.err != nil || c.end != "" {
		return c
	}
	mine, its := c.conn.LocalAddr().(*net.TCPAddr), c.conn.RemoteAddr().(*net.TCPAddr)
	if !poll(func() bool {
		_, unacknowledged, err1 := queues(mine, its)
		unread, _, err2 := queues(its, mine)
		return unacknowledged == 0 && unread == 0 && errors.Join(err1, err2) == nil
	}) {
		c.fail("having sent", errors.New("the server does not take it"))
	}
	return c
}

// halfClose ends the client's stream.
func (c *client) halfClose() *client {
	if c.err == nil && c.end == "" {
		if err := c.conn.CloseWrite(); errors.Is(err, syscall.ENOTCONN) {
			c.end = rst
		} else if err != nil {
			c.fail("half-closing", err)
		}
	}
	return c
}

// close closes the connection. The client hears nothing more.
func (c *client) close() *client {
	if c.conn != nil {
		c.conn.Close()
	}
	return c
}

// reset breaks the connection off.
func (c *client) reset() *client {
	if c.conn != nil {
		c.conn.SetLinger(0)
		c.conn.Close()
	}
	return c
}

// ended waits until the server closes, and expects no word before.
func (c *client) ended() (ending, error) { return c.endedAfter("") }

// endedAfter waits until the server closes. Before, the server may say words,
// or a part of them.
func (c *client) endedAfter(words string) (ending, error) {
	if c.err != nil {
		return "", c.err
	}
	defer c.conn.Close()
	if c.end != "" {
		return c.end, nil
	}
	got, err := c.read(patience)
	for len(got) > 0 && err == nil && strings.HasPrefix(words, string(got)) {
		words = words[len(got):]
		got, err = c.read(patience)
	}
	switch {
	case len(got) > 0:
		c.fail("expecting the end", fmt.Errorf("got %q", got))
	case err == io.EOF:
		c.end = fin
	case errors.Is(err, syscall.ECONNRESET):
		c.end = rst
	default:
		c.fail("expecting the end", err)
	}
	return c.end, c.err
}

func (c *client) ends(want ending) error {
	got, err := c.ended()
	if err == nil && got != want {
		return c.fail("expecting the end", fmt.Errorf("got %s where %s should be", got, want)).err
	}
	return err
}

// fin expects that the server closes in an orderly way, and nothing before.
func (c *client) fin() error { return c.ends(fin) }

// rst expects that the server resets the connection, and nothing before.
func (c *client) rst() error { return c.ends(rst) }

// upload is the script of a client that does all as it should.
func upload(port int, payload ...string) error {
	return connect(port).greet().send(payload...).halfClose().fin()
}

// check fails the test if a script has failed.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// together runs n scripts side by side, and fails the test if some fail.
func together(t *testing.T, n int, script func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = script(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// queue connects n clients one after the other, so that they will be served, or
// numbered, in this order.
func queue(t *testing.T, port, n int) []*client {
	t.Helper()
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = connect(port).must(t)
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.close()
		}
	})
	return clients
}

// cutAt cuts s in two.
func cutAt(s string, i int) []string { return []string{s[:i], s[i:]} }

// everyByte is all values a byte can have.
var everyByte = func() string {
	var b bytes.Buffer
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.String()
}()
