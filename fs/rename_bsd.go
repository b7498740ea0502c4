//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package fs

// renameNew is a rename that fails with EEXIST if there is something under the new
// name already.
func renameNew(dir int, from, to string) error { return linkNew(dir, from, to) }
