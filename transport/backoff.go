package transport

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// reaction is what the accept loop does after a failed Accept.
type reaction int

const (
	giveUp     reaction = iota // the listener failed
	retryNow                   // only this connection failed
	retryLater                 // a resource is short for now
)

// reactionTo returns the reaction to an error of Accept. accept(2) also returns errors of a
// connection in the backlog, and shortages. An error is final if the descriptor is not a
// listening socket, or if it does not come from the system.
func reactionTo(err error) reaction {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return giveUp
	}
	switch errno {
	case syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, syscall.EOPNOTSUPP, syscall.EFAULT:
		return giveUp
	case syscall.EINTR, syscall.ECONNABORTED, syscall.ECONNRESET:
		return retryNow
	default: // EMFILE, ENFILE, ENOBUFS, ENOMEM; EPERM of a firewall; ENETDOWN, …
		return retryLater
	}
}

const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = time.Second
)

// backoff spaces out failing attempts. A listening socket stays readable while a connection
// is pending, so the accept loop would spin.
type backoff struct{ next time.Duration }

// wait waits twice as long as the last time, until a connection has ended and freed its
// descriptor, or until ctx is done.
func (b *backoff) wait(ctx context.Context, ended <-chan struct{}) {
	b.next = min(max(2*b.next, firstBackoff), lastBackoff)
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	case <-ctx.Done():
	}
}
