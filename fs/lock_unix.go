//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockNew locks a file that was just created. mine is false if a sweep was faster: it has
// removed or locked the file. On a filesystem without locks mine is true.
func lockNew(f *os.File) (mine bool, err error) {
	cerr := control(f, func(fd int) {
		switch lerr := flock(fd); lerr {
		case syscall.EWOULDBLOCK:
			return
		default:
			var st syscall.Stat_t
			err = syscall.Fstat(fd, &st)
			mine = err == nil && st.Nlink > 0
		}
	})
	if err == nil {
		err = cerr
	}
	return mine, err
}

// tryLock locks f, and reports whether it succeeded.
func tryLock(f *os.File) (ok bool) {
	control(f, func(fd int) { ok = flock(fd) == nil })
	return ok
}

func flock(fd int) error {
	for {
		if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

// dup returns a second descriptor of f. It shares the lock of f.
func dup(f *os.File) (fd int, err error) {
	cerr := control(f, func(old int) {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil {
		err = cerr
	}
	return fd, err
}

func control(f *os.File, do func(fd int)) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Control(func(fd uintptr) { do(int(fd)) })
}
