//go:build !linux

package stage

// resetAfterEnd: see endedBefore.
const resetAfterEnd = false
