package fs

import "golang.org/x/sys/unix"

// renameNew is a rename that fails with EEXIST if there is something under the new
// name already.
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // the filesystem or the kernel does not know how
		return linkNew(dir, from, to)
	}
	return err
}
