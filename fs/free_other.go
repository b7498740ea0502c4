//go:build dragonfly || netbsd || openbsd

package fs

import (
	"errors"
	"os"
)

// freeOn does not know how to find out on this system.
func freeOn(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
