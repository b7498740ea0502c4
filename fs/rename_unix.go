//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import "golang.org/x/sys/unix"

// linkNew is renameNew by link(2). If power or process fail in between, the file has
// its old name, too, which a sweep removes.
func linkNew(dir int, from, to string) error {
	err := unix.Linkat(dir, from, dir, to, 0)
	switch err {
	case nil:
		if err = unix.Unlinkat(dir, from, 0); err != nil {
			unix.Unlinkat(dir, to, 0) // nothing is to be seen of what was not committed
		}
		return err
	case unix.EPERM, unix.ENOTSUP, unix.ENOSYS: // no links here (link(2))
		return lookNew(dir, from, to)
	}
	return err
}

// lookNew is renameNew for a filesystem that can do nothing to help: it is for whoever
// has claimed the name, and nobody else may use it.
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
