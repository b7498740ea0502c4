//go:build !linux

package fs

import "os"

// pushOut does nothing: only Linux can be asked to begin without being waited for.
func pushOut(_ *os.File, _, _ int64) error { return nil }
