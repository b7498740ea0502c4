package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/afero"
)

// probeName is the name of a file that newProbedStore creates and aborts.
const probeName = "probe"

// newProbedStore returns a Store in d, or closes d and fails if no file can be created in it.
// A full disk is no failure: it may not stay full.
func newProbedStore(d directory, o *options) (*Store, error) {
	probe, err := d.create(probeName)
	if err == nil {
		err = probe.abort()
	} else if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = nil
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return newStore(d, o), nil
}

// makeDir creates dir and its parents if they are missing, and syncs their names if the
// Store syncs names. A directory without read permission cannot be opened, and so not
// synced.
func makeDir(afs afero.Fs, dir string, o *options) error {
	var made []string
	for path := filepath.Clean(dir); ; path = filepath.Dir(path) {
		fi, err := afs.Stat(path)
		if err == nil && !fi.IsDir() { // MemMapFs would turn it into a directory
			return &os.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		if path == filepath.Dir(path) {
			break
		}
		if errors.Is(err, os.ErrNotExist) {
			made = append(made, path)
		}
	}
	if err := afs.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if _, err := afs.Stat(dir); err != nil {
		return err
	}
	if !o.syncsNames() {
		return nil
	}
	for _, path := range made {
		err := o.dirSyncError((&aferoDir{afs, filepath.Dir(path)}).sync())
		if err != nil && !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("sync the directory that holds %s: %w", path, err)
		}
	}
	return nil
}
