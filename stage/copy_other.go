//go:build !linux

package stage

// kernel is empty: on these systems Copy moves all bytes through a buffer.
type kernel struct{}

func (*transfer) initKernel()                 {}
func (*transfer) attachSource()               {}
func (*transfer) attachSink()                 {}
func (*transfer) kernelReads() bool           { return false }
func (*transfer) fillKernel(int) (int, error) { return 0, nil }
func (*transfer) flushKernel(int) error       { return nil }
func (*transfer) sendFile() (bool, error)     { return false, nil }
func (*transfer) freeKernel()                 {}
