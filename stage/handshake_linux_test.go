package stage

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// A client may send all it has, end its stream and go away without having heard
// a greeting. The greetings then meet nobody, which does not undo what was sent.
func TestHandshakeOverTCPWithADeafClient(t *testing.T) {
	payload := string(noise(100_000, 5))
	tests := []struct {
		name          string
		before, while []act // it is served
		want          shaken
	}{
		{"gone before it is greeted",
			[]act{says(header + payload), net.Conn.Close}, nil, shaken{called: true, payload: payload}},
		{"gone before it is greeted, without a payload",
			[]act{says(header), net.Conn.Close}, nil, shaken{called: true}},
		{"gone before it is greeted, within the header",
			[]act{says(header[:20]), net.Conn.Close}, nil, shaken{}},
		{"gone before it is greeted, without a word",
			[]act{net.Conn.Close}, nil, shaken{}},
		{"gone with its greeting unread, after it has ended its stream",
			[]act{says(header + payload), ends}, []act{awaitsInput, net.Conn.Close}, shaken{called: true, payload: payload}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcpPair(t)
			if err := <-play(client, tt.before...); err != nil {
				t.Fatal(err)
			}
			done := play(client, tt.while...)
			got := shake(t, server, Accio)
			if got.err != nil || got.called != tt.want.called {
				t.Errorf("ended with %v (next handler called: %t)", got.err, got.called)
			}
			sameBytes(t, []byte(got.payload), []byte(tt.want.payload))
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitsInput is a peer that waits until it could hear something, and does not
// listen.
func awaitsInput(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(patience))
	var perr error
	err = raw.Read(func(fd uintptr) bool {
		_, _, perr = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return perr != syscall.EAGAIN
	})
	return errors.Join(err, perr)
}
