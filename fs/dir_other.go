//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package fs

import (
	"path/filepath"

	"github.com/spf13/afero"
)

// OpenDir returns a Store in a directory of the disk. It creates the directory and its
// parents if they are missing, and fails if path is not a directory or cannot be written.
//
// renameio does not build on this system, so it is a Store of [New] on afero's OsFs. Since
// names are plain, it writes nothing outside the directory. It cannot sync a directory.
func OpenDir(path string, opts ...Option) (*Store, error) {
	o := newOptions(opts)
	if err := makeDir(afero.NewOsFs(), path, o); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return newProbedStore(&aferoDir{afero.NewOsFs(), abs}, o)
}
