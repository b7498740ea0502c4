package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/accio-go/accio/fs"
)

// CheckDir returns an error if fs.OpenDir would fail, or if the disk has fewer than
// minFree bytes left. It removes the directory that it creates as a test.
func CheckDir(dir string, minFree int64) (err error) {
	try := dir
	if _, serr := os.Stat(dir); dir != "" && errors.Is(serr, os.ErrNotExist) {
		parent := filepath.Clean(dir)
		for parent != filepath.Dir(parent) {
			// A dangling symbolic link exists, and is in the way.
			if _, err := os.Lstat(parent); !errors.Is(err, os.ErrNotExist) {
				break
			}
			parent = filepath.Dir(parent)
		}
		if try, err = os.MkdirTemp(parent, ".accio-check-"); err != nil {
			if path := (*os.PathError)(nil); errors.As(err, &path) {
				err = path.Err
			}
			return fmt.Errorf("cannot create %q in %q: %w", dir, parent, err)
		}
		defer func() { err = errors.Join(err, os.Remove(try)) }()
	}
	store, err := fs.OpenDir(try, fs.WithDurability(fs.None))
	if err != nil {
		return fmt.Errorf("cannot save files in %q: %w", dir, err)
	}
	defer store.Close()
	if minFree <= 0 {
		return nil
	}
	free, err := store.Free()
	if err != nil {
		return fmt.Errorf("cannot keep --min-free: %w", err)
	}
	if free < minFree {
		return fmt.Errorf("cannot keep --min-free: of %d bytes, %d are free on the disk of %q", minFree, free, dir)
	}
	return nil
}
