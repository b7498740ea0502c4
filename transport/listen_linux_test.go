package transport

import (
	"syscall"
	"testing"
)

func TestAConnectionInheritsKeepAlive(t *testing.T) {
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
