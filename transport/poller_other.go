//go:build !linux

package transport

// poller is not known here: connections wait on goroutines of their own.
type poller struct{}

func newPoller() *poller { return nil }

func (*poller) watch(int, bool) error { return nil }
func (*poller) wait(func(fd int))     {}
func (*poller) close()                {}
