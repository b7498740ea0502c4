//go:build darwin || freebsd || linux

package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns the free bytes of the filesystem that f is on.
func freeSpace(f *os.File) (int64, error) {
	st, err := statfs(f)
	if err != nil {
		return 0, err
	}
	return int64(st.Bavail) * blockSize(st), nil
}

// statfs calls statfs(2) for the filesystem that f is on.
func statfs(f *os.File) (*unix.Statfs_t, error) {
	st := new(unix.Statfs_t)
	var err error
	if cerr := control(f, func(fd int) { err = os.NewSyscallError("fstatfs", unix.Fstatfs(fd, st)) }); cerr != nil {
		return nil, cerr
	}
	return st, err
}
