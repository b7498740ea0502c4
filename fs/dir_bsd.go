//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package fs

// groupsCommits returns false: no gain was measured on these systems.
func (d *disk) groupsCommits() bool { return false }

// renameNew renames a file, and fails with EEXIST if the new name is taken.
func renameNew(dir int, from, to string) error { return linkNew(dir, from, to) }
