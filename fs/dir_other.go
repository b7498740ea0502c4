//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package fs

import (
	"path/filepath"

	"github.com/spf13/afero"
)

// OpenDir returns a Store in a directory of the disk, which it creates, with
// its parents, if it is missing. renameio does not build on this system, so it
// is a Store of [New] on afero's OsFs: names of files are plain names, so that
// nothing outside the directory is written; a directory cannot be synced.
//
// It fails if path is not a directory or cannot be written.
func OpenDir(path string, opts ...Option) (*Store, error) {
	o := newOptions(opts)
	if err := makeDir(path, o); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return newProbedStore(&anyDir{afero.NewOsFs(), abs}, o)
}

func syncPath(string) error { return nil }
