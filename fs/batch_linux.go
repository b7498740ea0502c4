package fs

import "golang.org/x/sys/unix"

// batches says whether small files are synced sooner in batches.
func (d *disk) batches() bool {
	st, err := statfs(d.self)
	return err == nil && batchesOn(int64(st.Type))
}

// batchesOn says that of a kind of filesystem (statfs(2)). They are on ext4, with a
// journal or without, which ext2 and ext3 have the number of, and on XFS. btrfs, for one, has
// concurrent syncs share what they write by itself, and there batches take a third longer. What is
// below an overlayfs is not known.
func batchesOn(kind int64) bool {
	return kind == unix.EXT4_SUPER_MAGIC || kind == unix.XFS_SUPER_MAGIC
}
