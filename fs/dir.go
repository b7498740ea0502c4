package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// probeName is the name of a file that is begun, and not committed, to see
// whether a directory can be written.
const probeName = "probe"

// newProbedStore returns a Store in d, or closes d if nothing can be created in
// it. A disk that is full is no reason: it may not stay so.
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

// makeDir creates path and its parents where they are missing, and makes their
// names durable, if they are to be.
func makeDir(path string, o *options) error {
	var made []string
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		_, err := os.Stat(p)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			break
		}
		made = append(made, p)
		if p == filepath.Dir(p) {
			break
		}
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if o.durability != Full {
		return nil
	}
	for _, p := range made {
		if err := o.synced(syncPath(filepath.Dir(p))); err != nil {
			return fmt.Errorf("sync the directory that holds %s: %w", p, err)
		}
	}
	return nil
}
