package stage

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// fill writes to conn until its peer, which reads nothing, has no more room.
func fill(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	defer conn.SetWriteDeadline(time.Time{})
	for {
		if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
			return
		}
	}
}

// What is taken of the backlog counts, though no write has gone on by it.
func TestStallGateSeesTheBacklogShrink(t *testing.T) {
	conn, peer := tcpPair(t)
	fill(t, conn)
	g := NewStallGate(conn, time.Hour)
	look := func() error {
		_, err := g.look()
		return err
	}
	g.start()
	if err := look(); err != nil {
		t.Fatal(err)
	}
	before := backlog(conn)
	if before <= 0 {
		t.Fatalf("a full connection has a backlog of %d", before)
	}
	for backlog(conn) >= before {
		if _, err := io.CopyN(io.Discard, peer, 64<<10); err != nil {
			t.Fatal(err)
		}
	}
	g.since = g.since.Add(-time.Hour)
	if err := look(); err != nil {
		t.Errorf("after the peer took something: %v", err)
	}
	if since := time.Since(g.since); since > time.Minute {
		t.Errorf("the limit has run for %v", since)
	}
	for g.left != backlog(conn) { // the last of it
		look()
	}
	g.since = g.since.Add(-time.Hour)
	if err := look(); !errors.Is(err, ErrIdle) {
		t.Errorf("after the peer took nothing: %v", err)
	}
}

func TestBacklog(t *testing.T) {
	conn, peer := tcpPair(t)
	if n := backlog(conn); n != 0 {
		t.Errorf("%d bytes before the first", n)
	}
	fill(t, conn)
	conn.CloseWrite()
	if n := backlog(conn); n < 1 {
		t.Errorf("%d bytes that the peer has no room for", n)
	}
	if _, err := io.Copy(io.Discard, peer); err != nil {
		t.Fatal(err)
	}
	for backlog(conn) > 0 { // the acknowledgement is under way
		time.Sleep(time.Millisecond)
	}
	conn.Close()
	for _, nc := range []net.Conn{nil, conn, noConn{}} {
		if n := backlog(nc); n != -1 {
			t.Errorf("%T: %d", nc, n)
		}
	}
}

type noConn struct{ net.Conn }
