package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// batchesOn says whether small files on the filesystem that dir is on are synced sooner in
// batches.
func batchesOn(dir *os.File) bool {
	var st unix.Statfs_t
	var err error
	if cerr := control(dir, func(fd int) { err = unix.Fstatfs(fd, &st) }); cerr != nil || err != nil {
		return false
	}
	return batchesOnKind(int64(st.Type))
}

// batchesOnKind is batchesOn for a kind of filesystem (statfs(2)). They are on ext4, with a
// journal or without, which ext2 and ext3 have the number of, and on XFS. btrfs, for one, has
// concurrent syncs share what they write by itself, and there batches take a third longer. What is
// below an overlayfs is not known.
func batchesOnKind(kind int64) bool {
	return kind == unix.EXT4_SUPER_MAGIC || kind == unix.XFS_SUPER_MAGIC
}
