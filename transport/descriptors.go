package transport

// reservedDescriptors are left for what is not a connection: the standard
// streams, the listener, the poller, a directory, the pipes of splice(2).
const reservedDescriptors = 32

// MaxConns returns how many connections can be served at a time without the
// process running out of descriptors, if each holds perConn of them; at least
// 1. It is 0, which for [NewPool] means no limit, where the system has no such
// limit.
//
// A [Pool] of that size is what keeps a flood of clients from taking the
// descriptor that an upload needs for its file: the flood waits in the kernel's
// queue instead.
func MaxConns(perConn int) int {
	n, ok := descriptors()
	if !ok {
		return 0
	}
	return max((n-reservedDescriptors)/max(perConn, 1), 1)
}
