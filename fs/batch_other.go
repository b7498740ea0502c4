//go:build !linux

package fs

import "os"

// batchesOn says that files are not synced in batches: they cannot be begun; see pushOut.
func batchesOn(*os.File) bool { return false }
