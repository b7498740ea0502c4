//go:build darwin || freebsd

package fs

import "golang.org/x/sys/unix"

// blockSize returns the unit of the block counts.
func blockSize(st *unix.Statfs_t) int64 { return int64(st.Bsize) }
