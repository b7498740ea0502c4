package fs

import "golang.org/x/sys/unix"

// blockSize is what blocks are counted in: f_frsize, as those of statvfs(3) are.
func blockSize(st *unix.Statfs_t) int64 {
	if st.Frsize == 0 {
		return int64(st.Bsize)
	}
	return int64(st.Frsize)
}
