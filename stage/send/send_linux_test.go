package send

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/accio-go/accio/stage"
)

// A connection reports its reset only once, here to sendfile.
func TestSendFileToServerThatResets(t *testing.T) {
	for range 5 {
		conn, server := tcpPair(t)
		file, err := os.Create(filepath.Join(t.TempDir(), "payload"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(64 << 20); err != nil {
			t.Fatal(err)
		}
		done := play(server, shakes, hearsFirst("\x00"), func(c net.Conn) error {
			// A reset in the middle of a call may be lost, so wait until the client waits.
			for before := -1; before != unacknowledged(conn); time.Sleep(100 * time.Millisecond) {
				before = unacknowledged(conn)
			}
			return resets(c)
		})
		_, err = testSender().Send(t.Context(), conn, file)
		if !errors.Is(err, stage.ErrReset) || errors.Is(err, ErrGone) {
			t.Fatalf("ended with %v", err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func unacknowledged(conn *net.TCPConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1
	}
	var n int32
	raw.Control(func(fd uintptr) {
		syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	return int(n)
}
