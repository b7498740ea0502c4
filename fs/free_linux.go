package fs

import "golang.org/x/sys/unix"

// blockSize returns the unit of the block counts: f_frsize, as in statvfs(3).
func blockSize(st *unix.Statfs_t) int64 {
	if st.Frsize == 0 {
		return int64(st.Bsize)
	}
	return int64(st.Frsize)
}
