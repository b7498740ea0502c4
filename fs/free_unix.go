//go:build darwin || freebsd || linux

package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeOn is what is free on the filesystem that f is on.
func freeOn(f *os.File) (int64, error) {
	st, err := statfs(f)
	if err != nil {
		return 0, err
	}
	return int64(st.Bavail) * blockSize(st), nil
}

// statfs is what statfs(2) says of the filesystem that f is on.
func statfs(f *os.File) (*unix.Statfs_t, error) {
	st := new(unix.Statfs_t)
	var err error
	if cerr := control(f, func(fd int) { err = os.NewSyscallError("fstatfs", unix.Fstatfs(fd, st)) }); cerr != nil {
		return nil, cerr
	}
	return st, err
}
