package transport

// reservedDescriptors is the number of descriptors for the standard streams, listeners,
// the poller, directories and the pipes of splice(2).
const reservedDescriptors = 32

// MaxConns returns the number of connections for which the process has descriptors.
//
// Each connection holds perConn descriptors. The result is at least 1, or 0 (for [NewPool]:
// no limit) if the system has no limit. With a [NewPool] of that size, a flood of clients
// waits in the listen backlog instead of taking the descriptors for files.
func MaxConns(perConn int) int {
	n, ok := descriptors()
	if !ok {
		return 0
	}
	return max((n-reservedDescriptors)/max(perConn, 1), 1)
}
