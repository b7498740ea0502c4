package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// pushOut has the system begin to write so much of f to the disk (sync_file_range(2)).
// That is no sync, and makes nothing durable. It returns when all of it has been handed
// to the disk, and waits where the disk's queue is full: so no file gets far ahead of
// the disk. Until then it holds a thread, as a write to a disk that is behind does.
//
// A write that fails later is told by the sync: the system keeps its error for every
// descriptor that the file has (file_check_and_advance_wb_err), and to begin a write
// does not take it away, as to wait for one (SYNC_FILE_RANGE_WAIT_BEFORE) would. But an
// error at the beginning is told here and nowhere else: ext4 drops the pages for which
// it finds no room on the disk, and does not remember that it did
// (mpage_map_and_submit_extent in fs/ext4/inode.c). So that is returned; what only says
// that there is no such call is not.
func pushOut(f *os.File, from, size int64) error {
	var err error
	cerr := control(f, func(fd int) { err = unix.SyncFileRange(fd, from, size, unix.SYNC_FILE_RANGE_WRITE) })
	if cerr != nil {
		return nil // it is closed, as the next who writes or syncs will say
	}
	switch err {
	case unix.EINVAL, unix.ENOSYS, unix.EPERM, unix.ESPIPE, unix.ENOTSUP, unix.EINTR:
		return nil
	}
	return os.NewSyscallError("sync_file_range", err)
}
