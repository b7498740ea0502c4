package transport

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// action is what is to be done after a failed Accept.
type action int

const (
	giveUp     action = iota // the listener is gone
	retryNow                 // only this connection failed
	retryLater               // the system lacks something that it may have again
)

// verdict judges an error of Accept. accept(2) hands on errors of the
// connection that was next in the queue, and says of the system's shortages
// what they are; only what says that the descriptor is no listening socket is
// final. An error that is not the system's is that of a listener of another
// kind, which knows better than we do whether it can go on: it is final.
func verdict(err error) action {
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

// backoff spaces out attempts that fail one after the other. A pending
// connection makes a listening socket readable all the time, so that an accept
// loop without it would spin.
type backoff struct{ next time.Duration }

// wait returns when it is time for another attempt: after a while that doubles
// each time, when a connection has ended (and left its descriptor), or when ctx
// is done.
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
