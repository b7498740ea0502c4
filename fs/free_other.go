//go:build dragonfly || netbsd || openbsd

package fs

import (
	"errors"
	"os"
)

// freeSpace is not implemented on this system.
func freeSpace(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
