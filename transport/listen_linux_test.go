package transport

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestListenKeepAlive(t *testing.T) {
	ln, _ := listen(t)
	dial(t, ln)
	raw, err := accept(t, ln).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range inherited {
		var got int
		raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), o.level, o.name) })
		if got != o.value || err != nil {
			t.Errorf("option %d of level %d is %d, %v; want %d", o.name, o.level, got, err, o.value)
		}
	}
}

func TestFileListenerMultipathTCP(t *testing.T) {
	const multipath = 262 // IPPROTO_MPTCP
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, multipath)
	if err != nil {
		t.Skipf("the machine has none: %v", err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := syscall.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	if ln, err := FileListener(f); err == nil {
		ln.Close()
		t.Error("it is a listener")
	} else if !strings.Contains(err.Error(), "of another protocol") {
		t.Error(err)
	}
}
