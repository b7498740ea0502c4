// Package fastconn reads a TCP connection by blocking calls while its peer sends fast.
//
// The poller of the Go runtime is edge-triggered (epoll(7)): each packet that arrives
// while a thread moves earlier ones wakes another thread for nothing. At a gigabit a
// second and in small segments, that costs more than moving the bytes. A blocking call is
// not woken before a quarter of a MiB has arrived (SO_RCVLOWAT in socket(7)).
//
// Only Linux has this. Elsewhere New returns the connection as it is.
package fastconn
