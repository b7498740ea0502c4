//go:build linux

package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/accio-go/accio/integration/proc"
)

// A disk that hangs: calls of fsync do not return, in the program as users have it.
// That is done by seccomp(2), whose user notification has whoever supervises a program
// decide when a call goes on. As with a disk that is behind a network, the
// system can still end the program.

// watchingFsync is the argument that makes the tests' own executable a program which
// becomes another, whose calls of fsync are supervised.
const watchingFsync = "watching-fsync"

// watchFsync becomes another program. Descriptor 3 is where its supervisor gets its
// descriptor from.
func watchFsync(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // it is the thread that has the filter
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number, in struct seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_FSYNC},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	unix.Close(3)
	return os.NewSyscallError("exec", unix.Exec(path, argv, os.Environ()))
}

// disk is the supervisor of a program's calls of fsync.
type disk struct {
	t     *testing.T
	hangs func(path string) bool // given what is synced: does that hang?
	count chan int               // how many hang, whenever it is one more
	over  chan struct{}          // closed when the program has ended

	mu   sync.Mutex
	fd   int
	held []uint64 // those that hang, by their number
}

// onDisk has the program's calls of fsync hang for which hangs reports true, until
// release.
func onDisk(t *testing.T, hangs func(path string) bool) (*disk, option) {
	d := &disk{t: t, hangs: hangs, count: make(chan int, 1000), over: make(chan struct{})}
	t.Cleanup(func() { // after that of the program, which is there only then
		if d.fd != 0 {
			<-d.over
			unix.Close(d.fd)
		}
	})
	return d, func(l *launch, s *service) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		check(t, os.NewSyscallError("socketpair", err))
		its := os.NewFile(uintptr(pair[1]), "socketpair")
		self, err := os.Executable()
		check(t, err)
		l.plain, l.through, l.files = true, []string{self, watchingFsync}, []*os.File{its}
		s.started = func() {
			its.Close()
			d.begin(pair[0])
		}
	}
}

// begin takes the program's descriptor over, from a socket that it closes.
func (d *disk) begin(socket int) {
	d.t.Helper()
	defer unix.Close(socket)
	buf := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), buf, 0)
	check(d.t, os.NewSyscallError("recvmsg", err))
	messages, err := unix.ParseSocketControlMessage(buf[:n])
	check(d.t, err)
	if len(messages) != 1 {
		d.t.Fatalf("%d messages instead of a descriptor", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	check(d.t, err)
	d.fd = fds[0]
	go func() {
		defer close(d.over)
		d.supervise()
	}()
}

// supervise decides on each call, until the program has ended.
func (d *disk) supervise() {
	for {
		poll := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, -1)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || poll[0].Revents&unix.POLLIN == 0 {
			return
		}
		// struct seccomp_notif: id, pid, flags, and struct seccomp_data: nr, arch,
		// instruction_pointer, args
		var call [80]byte
		if !d.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, call[:]) {
			continue // the thread has gone
		}
		id, pid, fd := binary.NativeEndian.Uint64(call[0:]), binary.NativeEndian.Uint32(call[8:]), binary.NativeEndian.Uint64(call[32:])
		path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if !d.hangs(path) {
			d.goOn(id)
			continue
		}
		d.mu.Lock()
		d.held = append(d.held, id)
		d.count <- len(d.held)
		d.mu.Unlock()
	}
}

// goOn has the system do what a call asks for.
func (d *disk) goOn(id uint64) {
	var answer [24]byte // struct seccomp_notif_resp: id, val, error, flags
	binary.NativeEndian.PutUint64(answer[0:], id)
	binary.NativeEndian.PutUint32(answer[20:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
	d.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, answer[:])
}

func (d *disk) ioctl(request uintptr, arg []byte) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), request, uintptr(unsafe.Pointer(&arg[0])))
	return errno == 0
}

// awaits waits until n calls hang.
func (d *disk) awaits(n int) {
	d.t.Helper()
	for late := time.After(patience); ; {
		select {
		case now := <-d.count:
			if now == n {
				return
			}
		case <-late:
			d.t.Fatalf("%d calls of fsync do not come", n)
		}
	}
}

// release lets go on what hangs.
func (d *disk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range d.held {
		d.goOn(id)
	}
	d.held = nil
}

// of reports whether a path is that of the pending file of connection n.
func of(n int, path string) bool {
	return strings.HasPrefix(filepath.Base(path), "."+numbered(n))
}

// README, "What is promised": nobody can stop the service for the others, and that goes
// for a disk, too.
func TestASlowSyncHoldsUpNobodyElse(t *testing.T) {
	busy(t)
	d, slow := onDisk(t, func(path string) bool { return of(1, path) || of(2, path) })
	s := serve(t, "server", slow)
	clients := queue(t, s.port, 2)
	for _, c := range clients {
		check(t, c.greet().send("slow").halfClose().err)
	}
	d.awaits(2)
	const others = 50
	together(t, others, func(int) error { return upload(s.port, "quick") })
	for i, c := range clients {
		c.waiting().must(t)
		if err := s.dir.has(numbered(i+1), ""); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there before it is synced (%v)", numbered(i+1), err)
		}
	}
	d.release()
	for _, c := range clients {
		check(t, c.fin())
		s.outcome(received("slow"))
	}
	for range others {
		s.outcome(received("quick"))
	}
	s.stop()
}

// However many hang, nobody is kept from being heard, and a stop from coming to an
// end: the kernel waits for none of them, and neither does the program.
func TestASignalEndsAProgramWhoseDiskHangs(t *testing.T) {
	busy(t)
	for _, tt := range []struct {
		name           string
		clients, hangs int
		directory      bool // it is that which cannot be synced, and not the files
	}{
		{"one file", 1, 1, false},
		{"as many files as are synced at a time, and more", 50, 32, false},
		{"the directory", 10, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var dir string
			d, slow := onDisk(t, func(path string) bool { return tt.directory == (path == dir) })
			s := serve(t, "server", slow, func(_ *launch, s *service) { dir = s.dir.path })
			before := s.turnsOfFirstThread()
			clients := queue(t, s.port, tt.clients)
			for _, c := range clients {
				check(t, c.greet().send("in vain").halfClose().err)
			}
			d.awaits(tt.hangs)
			if n := s.turnsOfFirstThread() - before; n > 0 {
				t.Errorf("the thread that gets the signals was at work %d times", n)
			}
			begun := s.connect().greet().send("hel").taken().must(t)
			begun.send("lo").taken().waiting().must(t)

			s.halt(syscall.SIGTERM)
			together(t, len(clients), func(i int) error { return clients[i].rst() })
			check(t, begun.rst())
			s.silent()
			for _, name := range s.dir.names() {
				var n int
				fmt.Sscanf(name, "%d.file", &n)
				switch err := s.dir.has(name, "in vain"); {
				case n == tt.clients+1:
					s.dir.holdsAt(name, "ERROR")
				case !tt.directory:
					t.Errorf("%s is there, and was never synced", name)
				case err != nil: // it is whole, though nobody knows for how long
					t.Error(err)
				}
			}
		})
	}
}

// turnsOfFirstThread is how often the program's first thread has begun to wait, as it
// does at last when the program has started, which is waited for. The system gives
// signals to that thread if it can, also when it waits for a disk and will see none
// before that has answered (complete_signal in kernel/signal.c): so it must have nothing
// to do, above all when many others wait.
func (p *program) turnsOfFirstThread() int64 {
	p.t.Helper()
	pid := p.cmd.Process.Pid
	if !poll(func() bool {
		stat, err := proc.Stat(pid) // of the first thread, what its state is
		return err == nil && stat[0] == "S"
	}) {
		p.t.Fatal("the first thread is always at work")
	}
	return p.field(fmt.Sprintf("task/%d/status", pid), "voluntary_ctxt_switches")
}
