package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// makeDir creates path and its parents where they are missing, and makes their
// names durable.
func makeDir(path string) error {
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
	for _, p := range made {
		if err := syncPath(filepath.Dir(p)); err != nil {
			return fmt.Errorf("sync the directory that holds %s: %w", p, err)
		}
	}
	return nil
}
