//go:build darwin || freebsd

package fs

import "golang.org/x/sys/unix"

// blockSize is what blocks are counted in.
func blockSize(st *unix.Statfs_t) int64 { return int64(st.Bsize) }
