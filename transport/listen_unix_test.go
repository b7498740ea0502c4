//go:build unix

package transport

import (
	"io"
	"net"
	"syscall"
	"testing"
)

// sendUrgent sends bytes the last of which is urgent.
func sendUrgent(t *testing.T, conn *net.TCPConn, text string) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	if err := raw.Write(func(fd uintptr) bool {
		serr = syscall.Sendto(int(fd), []byte(text), syscall.MSG_OOB, nil)
		return serr != syscall.EAGAIN
	}); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
}

func TestAnUrgentByteIsOneOfTheStream(t *testing.T) {
	ln, _ := listen(t)
	client := dial(t, ln)
	conn := accept(t, ln)
	io.WriteString(client, "a")
	sendUrgent(t, client, "b")
	io.WriteString(client, "c")
	sendUrgent(t, client, "de")
	client.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "abcde" || err != nil {
		t.Errorf("there came %q, %v", got, err)
	}
}
