package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// batchesOn says whether small files on the filesystem that dir is on are synced sooner in
// batches: on ext4, with a journal or without, and on XFS. btrfs, for one, has concurrent syncs
// share what they write by itself, and there batches take a third longer.
func batchesOn(dir *os.File) bool {
	var st unix.Statfs_t
	var err error
	if cerr := control(dir, func(fd int) { err = unix.Fstatfs(fd, &st) }); cerr != nil || err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC:
		return true
	}
	return false
}
