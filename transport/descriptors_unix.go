//go:build unix

package transport

import "syscall"

// descriptors returns the limit on open files of the process.
func descriptors() (int, bool) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, false
	}
	const most = 1 << 30 // as good as no limit; RLIM_INFINITY is -1 or larger than this
	if n := int64(lim.Cur); 0 <= n && n < most {
		return int(n), true
	}
	return most, true
}
