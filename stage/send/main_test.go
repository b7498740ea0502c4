package send

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accioGreeting     = "accio\r\n"
	accioConfirm      = "confirm-accio\r\n"
	accioConfirmAgain = "confirm-accio-again\r\n\r\n"
)

var errOne = errors.New("one failure")

// act is one thing that a server does.
type act = memnet.Step

func says(s string) act                  { return memnet.Say(s) }
func pauses(d time.Duration) act         { return memnet.Pause(d) }
func resets(c net.Conn) error            { return memnet.Reset(c) }
func wire() (client, server memnet.Conn) { return memnet.Pair() }

func play(c net.Conn, acts ...act) <-chan error {
	done := make(chan error, 1)
	go func() { done <- memnet.Peer(acts).Play(c) }()
	return done
}

// late is how much later than at its limit a Send may end.
const late = 500 * time.Millisecond

// tcpPair returns the two ends of a connection on loopback.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func hears(s string) act { return memnet.HearAtOnce(s) }

// slowPayload gives strings, and sleeps for durations.
type slowPayload struct{ left []any }

func (s *slowPayload) Read(p []byte) (int, error) {
	for len(s.left) > 0 {
		next := s.left[0]
		s.left = s.left[1:]
		switch next := next.(type) {
		case time.Duration:
			time.Sleep(next)
		case string:
			return copy(p, next), nil
		}
	}
	return 0, io.EOF
}

// takes is a server that takes n bytes.
func takes(n int64) act {
	return func(c net.Conn) error {
		_, err := io.CopyN(io.Discard, c, n)
		return err
	}
}

// farewell waits for the other side's close, and returns nil if it is orderly.
func farewell(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}
