package stage

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestSendLetsTheKernelMoveAFile(t *testing.T) {
	payload := noise(2*transferSize, 15)
	used := usedBuffers(t)
	conn, server := tcpPair(t)
	got := make(chan []byte, 1)
	go func() {
		defer server.Close()
		if err := shakes(server); err != nil {
			t.Error(err)
		}
		b, err := io.ReadAll(server)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	n, err := testSender().Send(t.Context(), conn, sources["a file"](t, payload))
	if n != int64(len(payload)) || err != nil {
		t.Errorf("sent %d, %v", n, err)
	}
	sameBytes(t, <-got, payload)
	if used() != 0 {
		t.Errorf("%d buffers were used", used())
	}
	checkPipes(t)
}

// A connection tells of its reset but once, and sendfile is who hears it.
func TestAResetIsToldToWhoeverSendsAFile(t *testing.T) {
	for range 5 {
		conn, server := tcpPair(t)
		done := play(server, shakes, hearsFirst("\x00"), func(c net.Conn) error {
			// In the midst of a call it may be lost: see sendSize.
			for before := -1; before != backlog(conn); time.Sleep(100 * time.Millisecond) {
				before = backlog(conn)
			}
			return resets(c)
		})
		file := tempFile(t, 0)
		if err := file.Truncate(64 << 20); err != nil {
			t.Fatal(err)
		}
		_, err := testSender().Send(t.Context(), conn, file)
		if !errors.Is(err, ErrReset) || errors.Is(err, ErrGone) {
			t.Fatalf("ended with %v", err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
