// Package transporttest finds out whether a transport.Scheduler keeps the rules that
// transport.Server relies on:
//
//	func TestMyScheduler(t *testing.T) {
//		transporttest.TestScheduler(t, 3, func() transport.Scheduler { return NewMine(3) })
//	}
//
// Package memnet, below this one, has listeners and connections in memory.
package transporttest
