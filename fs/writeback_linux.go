package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteBack makes the system begin to write a part of f to the disk
// (sync_file_range(2)). That is no sync and makes nothing durable. It waits while the queue
// of the disk is full, so no file gets far ahead of the disk.
//
// The sync reports a write that fails later: the system keeps the error for every
// descriptor (file_check_and_advance_wb_err), and only waiting for writes
// (SYNC_FILE_RANGE_WAIT_BEFORE) would clear it. An error at the beginning is reported only
// here: ext4 drops pages without room on the disk, and does not record that
// (mpage_map_and_submit_extent in fs/ext4/inode.c). Errors that say that the call is not
// supported are ignored.
func startWriteBack(f *os.File, from, size int64) error {
	var err error
	cerr := control(f, func(fd int) { err = unix.SyncFileRange(fd, from, size, unix.SYNC_FILE_RANGE_WRITE) })
	if cerr != nil {
		return nil // the file is closed, which the next write or sync reports
	}
	switch err {
	case unix.EINVAL, unix.ENOSYS, unix.EPERM, unix.ESPIPE, unix.ENOTSUP, unix.EINTR:
		return nil
	}
	return os.NewSyscallError("sync_file_range", err)
}
