//go:build !unix

package transport

func descriptors() (int, bool) { return 0, false }
