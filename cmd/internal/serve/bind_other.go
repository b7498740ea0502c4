//go:build !unix

package serve

// bind does nothing: elsewhere a bound socket is in use.
func bind(uint16) error { return nil }
