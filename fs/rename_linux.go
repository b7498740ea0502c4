package fs

import "golang.org/x/sys/unix"

// renameNew renames a file, and fails with EEXIST if the new name is taken.
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // not supported by the filesystem or the kernel
		return linkNew(dir, from, to)
	}
	return err
}
