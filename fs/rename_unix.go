//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import "golang.org/x/sys/unix"

// linkNew is renameNew by link(2). After a crash in between, the file also has its old name,
// which a sweep removes.
func linkNew(dir int, from, to string) error {
	err := unix.Linkat(dir, from, dir, to, 0)
	switch err {
	case nil:
		if err = unix.Unlinkat(dir, from, 0); err != nil {
			unix.Unlinkat(dir, to, 0) // the commit fails, so the file must not be visible
		}
		return err
	case unix.EPERM, unix.ENOTSUP, unix.ENOSYS: // no links here (link(2))
		return lookNew(dir, from, to)
	}
	return err
}

// lookNew is renameNew for a filesystem without links. It is not atomic: the caller has
// claimed the name, and no other process may use it.
func lookNew(dir int, from, to string) error {
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, to, &st, unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
		return unix.EEXIST
	case unix.ENOENT:
		return unix.Renameat(dir, from, dir, to)
	default:
		return err
	}
}
