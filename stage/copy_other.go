//go:build !linux

package stage

// kernel is empty: these systems have no way past the program that Copy knows of.
type kernel struct{}

func (*transfer) initKernel()                 {}
func (*transfer) attachSource()               {}
func (*transfer) attachSink()                 {}
func (*transfer) kernelReads() bool           { return false }
func (*transfer) fillKernel(int) (int, error) { return 0, nil }
func (*transfer) flushKernel(int) error       { return nil }
func (*transfer) sendFile() (bool, error)     { return false, nil }
func (*transfer) freeKernel()                 {}
